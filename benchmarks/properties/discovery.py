"""Does the ranking find materials? Held-out compounds among a million formulas, in a campaign that never saw them.

Suffixes: N candidates.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.properties import ranking
from benchmarks.properties.campaign import (
    DRAWS,
    SEED,
    UNSTABLE_EV_PER_ATOM,
    Campaign,
    Pool,
    draw,
    hide,
    labels,
    make_pool,
    read_campaign,
)
from pipeline.composition import Compositions
from pipeline.filtering.rules import assess
from pipeline.provenance import derived_seed
from pipeline.screening import likeness
from pipeline.screening.distribution import probability_below
from pipeline.screening.features import magpie
from pipeline.screening.labelled import TRAIN, VALIDATION, Labelled, three_way_split
from pipeline.screening.models import DECOMPOSITION_ENERGY, FORMATION_ENERGY, PropertyModel
from pipeline.screening.training import Training, calibrate, train_estimator

VALIDATION_SHARE = 0.1
NEAR_HULL_EV_PER_ATOM, MADE_EV_PER_ATOM = 0.05, 0.05
"""As in config/config.yaml: ``screening.select`` and ``screening.likeness``."""
TOPS = (100, 1_000, 10_000)
PRODUCTS = {
    "P(near hull) x likeness": (1, 1),
    "P(near hull)^2 x likeness": (2, 1),
    "P(near hull)^4 x likeness": (4, 1),
    "P(near hull) x likeness^2": (1, 2),
}
"""Exponents of the two terms: the weights of ``screening.select``."""
FORMATION, HULL, ALONE, WHOLE, LIKE = "formation", "hull", "without analogues", "labels of the whole hull", "likeness"
CHUNK = 1 << 16


def run(results: Path, folder: Path, work: Path, n: int, learners: dict[str, dict]) -> dict:
    """Hide the campaign's held-out compounds among candidates, rank, and look at the top.

    Args:
        results: The campaign's folder.
        folder: Of the public tables.
        work: Where the model of likeness goes.
        n: Candidates of each kind, at most.
        learners: Of the energies, with their settings.

    Returns:
        What there was to find, and for each kind of candidates what each ranking found; stable against unstable
        held-out compounds by each term.
    """
    campaign = read_campaign(results)
    decomposition, formation, knowing = labels(folder, campaign)
    models = {
        FORMATION: learn(FORMATION_ENERGY, formation, {"boosted": learners["boosted"]}, True),
        HULL: learn(DECOMPOSITION_ENERGY, decomposition, learners, True),
        ALONE: learn(DECOMPOSITION_ENERGY, decomposition, learners, False),
        WHOLE: learn(DECOMPOSITION_ENERGY, knowing, learners, True),
    }
    like = learn_likeness(work / "likeness", campaign, decomposition)
    pools, held = {}, hide(campaign)
    for kind in (*DRAWS, "generator"):
        candidates = draw(kind, campaign, n) if kind in DRAWS else campaign.survivors.take(_first(n, campaign))
        pool = make_pool(campaign, candidates)
        terms = score(pool.compositions, models, like)
        np.savez(work / f"discovery-{kind}.npz", stable=pool.stable, unstable=pool.unstable, **terms)
        pools[kind] = {
            "candidates": len(pool.compositions),
            "stable": int(pool.stable.sum()),
            "unstable": int(pool.unstable.sum()),
            "stable_also_drawn": int(held.compositions.take(held.stable).contained_in(candidates).sum()),
            "unscored": int(np.isnan(sum(terms.values())).sum()),
            "rankings": {name: _ranking(pool, values) for name, values in rankings(terms).items()},
        }
        print(kind, {key: value for key, value in pools[kind].items() if key != "rankings"}, flush=True)
    return {
        "settings": {"learners": learners, "near_hull_ev_per_atom": NEAR_HULL_EV_PER_ATOM},
        "training_formulas": len(campaign.training),
        "labelled": len(decomposition),
        "drawn": campaign.n_drawn,
        "samples": campaign.n_samples,
        "survivors": len(campaign.survivors),
        "held_out": _held_out(campaign),
        "pools": pools,
        "stability": _stability(held, rankings(score(held.compositions, models, like))),
    }


def _first(n: int, campaign: Campaign) -> np.ndarray:
    """Positions of the first samples: parts are by hash, so these are drawn as at random."""
    return np.arange(min(n, len(campaign.survivors)))


def _held_out(campaign: Campaign) -> dict:
    """How many held-out formulas there are of each kind, and how many of them the filter passes."""
    passed = assess(campaign.held_out, campaign.rules).smact_valid
    kinds = {"stable": campaign.above_hull <= 0, "unstable": campaign.above_hull > UNSTABLE_EV_PER_ATOM}
    return {
        "formulas": len(campaign.held_out),
        "without_energy": int(np.isnan(campaign.above_hull).sum()),
        **{
            name: {"formulas": int(which.sum()), "pass_the_filter": int((which & passed).sum())}
            for name, which in kinds.items()
        },
    }


def rankings(terms: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers that rank candidates, the highest first, by name: single terms, and products of powers of two."""
    near, alone, whole = (np.log(terms[f"{name} near hull"]) for name in (HULL, ALONE, WHOLE))
    with np.errstate(divide="ignore"):
        like = np.log(terms[LIKE])
    return {
        "formation energy": -terms[f"{FORMATION} value"],
        "decomposition energy": -terms[f"{HULL} value"],
        "P(near hull)": near,
        "likeness": like,
        **{name: a * near + b * like for name, (a, b) in PRODUCTS.items()},
        f"P(near hull) {ALONE}": alone,
        f"P(near hull) {ALONE} x likeness": alone + like,
        f"P(near hull), {WHOLE}": whole,
        f"P(near hull), {WHOLE}, x likeness": whole + like,
    }


def _ranking(pool: Pool, values: np.ndarray) -> dict:
    order = ranking.best_first(values, SEED)
    return {
        "stable": ranking.found_within(pool.stable, order, TOPS),
        "unstable": [int(pool.unstable[order[:top]].sum()) for top in TOPS],
        "curve": ranking.recall_curve(pool.stable, order),
    }


def _stability(held: Pool, ranked: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """Stable against unstable held-out compounds; one that has no score counts as the least likely."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    found = {}
    for name, values in ranked.items():
        known = np.where(np.isnan(values), np.nanmin(values), values)
        found[name] = {
            "roc_auc": float(roc_auc_score(held.stable, known)),
            "average_precision": float(average_precision_score(held.stable, known)),
        }
    return found


def learn(target: str, rows: Labelled, learners: dict, analogues: bool) -> tuple[PropertyModel, list[float]]:
    """A model of all rows but a tenth, which stops training and calibrates; with its normalised residuals."""
    rows = rows.without_rare_elements()
    part = three_way_split(rows.compositions, VALIDATION_SHARE, 0.0, SEED)
    train, validation = rows.take(part == TRAIN), rows.take(part == VALIDATION)
    settings = Training(VALIDATION_SHARE, 0.0, {target: learners}, analogues)
    seed = derived_seed(SEED, target)
    return calibrate(train_estimator(target, train, validation, settings, seed, 1), target, validation, seed, 1)


def learn_likeness(folder: Path, campaign: Campaign, decomposition: Labelled) -> likeness.Likeness:
    """Trained on the campaign's entries; their energies above the hull are those without held-out compounds."""
    above_hull = np.full(len(campaign.training), np.nan)
    place = {hash_of: row for row, hash_of in enumerate(decomposition.compositions.hashes().tolist())}
    found = np.array([place.get(hash_of, -1) for hash_of in campaign.training.hashes().tolist()])
    above_hull[found >= 0] = np.maximum(decomposition.values[found[found >= 0]], 0)
    about = likeness.fit(campaign.training, above_hull, folder, campaign.rules, MADE_EV_PER_ATOM, SEED, 1)
    if about.get("untrained_because"):
        raise ValueError(f"likeness: {about['untrained_because']}; give --campaign with more entries")
    return likeness.Likeness.load(folder)


def score(pool: Compositions, models: dict[str, tuple], like: likeness.Likeness) -> dict[str, np.ndarray]:
    """Scores of N candidates by name: of each model its value and the probability to lie near the hull; likeness.

    NaN where a candidate has an element that a model never saw.
    """
    names = [f"{name} {what}" for name in models for what in ("value", "near hull")]
    scores = {name: np.full(len(pool), np.nan) for name in (*names, LIKE)}
    for start in range(0, len(pool), CHUNK):
        chunk = pool.take(np.arange(start, min(start + CHUNK, len(pool))))
        features_NF = magpie(chunk)
        for name, (model, quantiles) in models.items():
            rows = covered(chunk, model.estimator.vocabulary)
            said = model.predict(chunk.take(rows), features_NF[rows], 1)
            scores[f"{name} value"][start + rows] = said.value
            near = probability_below(said.value, said.half_width, NEAR_HULL_EV_PER_ATOM, quantiles)
            scores[f"{name} near hull"][start + rows] = near
        rows = covered(chunk, like.vocabulary)
        scores[LIKE][start + rows] = like.predict(chunk.take(rows), features_NF[rows], 1)
    return scores


def covered(compositions: Compositions, vocabulary: list[int]) -> np.ndarray:
    """Rows without an element outside the vocabulary."""
    inside = np.ones(len(compositions), dtype=bool)
    inside[compositions.rows[~np.isin(compositions.elements, vocabulary)]] = False
    return np.flatnonzero(inside)
