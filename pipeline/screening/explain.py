"""Why a formula stands where it stands in a campaign, or where it would, as plain facts."""

import math
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import DRAWN, FILTERED, VERDICTS
from pipeline.screening.campaign import Campaign
from pipeline.screening.criteria import LIMITS, Criteria, failing
from pipeline.screening.elements import RADIOACTIVE, SUPPLY_COLUMNS, TOXIC
from pipeline.screening.predict import score
from pipeline.screening.schema import PREDICTED, SCORE_COLUMNS
from pipeline.screening.select import SCREENED, chemical_systems, judged, merits
from pipeline.screening.usefulness import TERM_COLUMNS, TERMS, log_usefulness

N_NEAREST = 5
_DATABASE = ["id", "formula", "elements", "counts", "formation_energy_ev_per_atom", "energy_above_hull_ev_per_atom"]
_DATABASE += ["band_gap_ev"]
_RANKED = ["id", "likeness", *(field.name for field in TERM_COLUMNS), "usefulness", "rank", "rejected_by"]


def explain(formula: str, campaign: Campaign) -> dict:
    """All that decides about a formula: its scores and terms, the filter, the cutoffs, and what became of it.

    A formula that the campaign never scored is scored on the spot by the campaign's models.

    Args:
        formula: Need not be reduced.
        campaign: Which one.

    Returns:
        What :func:`pipeline.screening.telling.tell` puts in words; every value can be written as JSON.

    Raises:
        ValueError: The formula cannot be read, or a table or a model is missing or damaged.
    """
    composition = Compositions.from_formulas([formula]).reduced()
    reduced = composition.formulas()[0].as_py()
    criteria = campaign.criteria
    entries = tables.read(campaign.entries, ENTRIES, _DATABASE)
    drawn = _drawn(campaign, reduced)
    recorded = _recorded(campaign, [row["id"] for row in drawn])
    if recorded:
        scores = pa.Table.from_pylist(recorded[:1]).select([field.name for field in SCORE_COLUMNS])
        scores = scores.cast(pa.schema([PREDICTED.schema.field(name) for name in scores.column_names]))
    else:
        scores = score(composition, campaign.models, campaign.entries, threads=1)
    candidate = judged(_with(scores, composition.columns()), criteria, campaign.residuals)
    filtered = _filter(composition, campaign)
    cutoffs = _cutoffs(candidate, criteria)
    stopped = "filter" if filtered["rejects"] else next((each["key"] for each in cutoffs if not each["passes"]), None)
    standing = None if stopped else _standing(reduced, candidate, criteria, campaign)
    row = candidate.to_pylist()[0]
    return {
        "given": formula,
        "formula": reduced,
        "campaign": campaign.config["campaign"],
        "results": str(campaign.results),
        "known": _known(composition, entries),
        "filter": filtered,
        "drawn": drawn,
        "recorded": recorded and [{name: each[name] for name in ("id", "rank", "rejected_by")} for each in recorded],
        "scored_now": not recorded,
        "scores": {field.name: row[field.name] for field in (*SCORE_COLUMNS, *SUPPLY_COLUMNS)},
        "terms": _terms(row, standing, criteria),
        "cutoffs": cutoffs,
        "stopped_by": stopped,
        "standing": standing,
        "criteria": asdict(criteria) | {"gap_window": criteria.gap_window},
        "nearest_known": _nearest(composition, entries),
        "changed_since": _changed_since(campaign),
    }


def k_nearest(composition: Compositions, known: Compositions, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k known compositions nearest to one, as :func:`pipeline.screening.novelty.nearest_known` measures it.

    Args:
        composition: One composition.
        known: The compositions to look among.
        k: How many, fewer where there are not so many.

    Returns:
        Positions in ``known``, nearest first and the first of equals first, and distances from 0 to 2; shape (k,).
    """
    fraction_Z = np.zeros(len(SYMBOLS) + 1)
    fraction_Z[composition.elements] = composition.fractions()
    shared = np.minimum(known.fractions(), fraction_Z[known.elements])
    distance = np.maximum(2 - 2 * np.bincount(known.rows, shared, minlength=len(known)), 0)
    nearest = np.argsort(distance, kind="stable")[:k]
    return nearest, distance[nearest]


def _with(table: pa.Table, columns: dict) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _drawn(campaign: Campaign, formula: str) -> list[dict]:
    """Samples of a formula, several where the generator made crystals: id, times drawn, why the filter rejected it."""
    of_formula = (pc.field("id") == formula) | pc.starts_with(pc.field("id"), f"{formula}-")
    found = []
    for path in campaign.parts("sampling/samples"):
        found += tables.read(path, DRAWN, ["id", "n_drawn"], rows=of_formula).to_pylist()
    rejected = {}
    for path in campaign.parts("filtering/filtered") if found else ():
        rows = tables.read(path, FILTERED, ["id", "rejected_by"], rows=of_formula)
        rejected |= {row["id"]: row["rejected_by"] for row in rows.to_pylist()}
    return [row | {"rejected_by": rejected.get(row["id"])} for row in found]


def _recorded(campaign: Campaign, ids: list[str]) -> list[dict]:
    """What screening wrote of these samples, the best first."""
    found = []
    for path in campaign.parts("screening/screened") if ids else ():
        found += tables.read(path, SCREENED, rows=pc.field("id").isin(ids)).to_pylist()
    return sorted(found, key=lambda row: (row["rank"] is None, row["rank"], -(row["usefulness"] or 0), row["id"]))


def _filter(composition: Compositions, campaign: Campaign) -> dict:
    judgement = assess(composition, campaign.rules)
    symbols = [SYMBOLS[z - 1] for z in composition.elements]
    states = dict(zip(symbols, judgement.oxidation_states.tolist(), strict=True)) if judgement.has_states[0] else None
    valid = bool(judgement.smact_valid[0])
    return {
        "verdict": VERDICTS[judgement.verdict[0]],
        "valid": valid,
        "rejects": campaign.rejects_invalid and not valid,
        "oxidation_states": states,
        "rules": asdict(campaign.rules),
    }


def _known(composition: Compositions, entries: pa.Table) -> list[dict]:
    """The database's entries of the formula."""
    every = Compositions.from_table(entries).reduced()
    return entries.filter(pa.array(every.contained_in(composition))).drop(["elements", "counts"]).to_pylist()


def _nearest(composition: Compositions, entries: pa.Table) -> list[dict]:
    """Known compounds nearest to it, each formula once, with the database's values."""
    positions, distances = k_nearest(composition, Compositions.from_table(entries), len(entries))
    formulas = entries["formula"]
    chosen: dict[str, tuple[int, float]] = {}
    for position, distance in zip(positions.tolist(), distances.tolist(), strict=True):
        chosen.setdefault(formulas[position].as_py(), (position, distance))
        if len(chosen) == N_NEAREST:
            break
    rows = entries.drop(["elements", "counts"]).take([position for position, _ in chosen.values()]).to_pylist()
    return [row | {"distance": round(away, 4)} for row, (_, away) in zip(rows, chosen.values(), strict=True)]


def _terms(row: dict, standing: dict | None, criteria: Criteria) -> list[dict]:
    """Every term: value, weight, and its share of what lacks to a usefulness of 1, counted in logarithms."""
    values = {column: row[column] for column in TERMS.values() if column in row}
    values["diversity"] = standing and standing["diversity"]
    weights = {name: getattr(criteria.weights, name) for name in TERMS}
    lacks = {
        name: weights[name] * math.log(1 / max(values[column], sys.float_info.min))
        for name, column in TERMS.items()
        if values[column] is not None
    }
    total = sum(lacks.values())
    return [
        {"term": name, "column": column, "value": values[column], "weight": weights[name]}
        | {"share": round(lacks[name] / total, 4) if name in lacks and total else None}
        for name, column in TERMS.items()
    ]


def _cutoffs(candidate: pa.Table, criteria: Criteria) -> list[dict]:
    """Each cutoff that is on, in the order in which they reject: key, limit, the candidate's value, if it passes."""
    row, composition = candidate.to_pylist()[0], Compositions.from_table(candidate)
    symbols = [SYMBOLS[z - 1] for z in composition.elements]
    forbidden = {
        "allowed_elements": [each for each in symbols if each not in (criteria.allowed_elements or symbols)],
        "excluded_elements": [each for each in symbols if each in criteria.excluded_elements],
        "exclude_radioactive": [each for each in symbols if each in RADIOACTIVE],
        "exclude_toxic": [each for each in symbols if each in TOXIC],
    }
    values = {
        "known": row["is_known"],
        "unscored": row["unscored_because"],
        "min_elements": len(symbols),
        "max_elements": len(symbols),
        "max_atoms": int(composition.n_atoms[0]),
        **{name: ", ".join(found) or None for name, found in forbidden.items()},
        **{name: row[name.partition("_")[2]] for name in LIMITS},
    }
    return [
        {"key": name, "limit": getattr(criteria, name, None), "value": values[name], "passes": not failed[0]}
        for name, failed in failing(candidate, criteria).items()
    ]


def _standing(formula: str, candidate: pa.Table, criteria: Criteria, campaign: Campaign) -> dict | None:
    """Where a formula that passes the cutoffs stands among the campaign's ranked candidates; None if it has none.

    Returns:
        ``place`` in its chemical system, from 1; ``better_in_system``, those before it there; ``beaten``, whether they
        are as many as may be; ``diversity``, ``usefulness`` and ``position`` (from 1) among all ranked if not.
    """
    predicted, screened = (campaign.parts(f"screening/{name}") for name in ("predicted", "screened"))
    if not screened or len(predicted) != len(screened):
        return None
    system = chemical_systems(Compositions.from_table(candidate))
    merit = merits(candidate, criteria)
    others, mates = [], []
    for path, elements_path in zip(screened, predicted, strict=True):
        rows = tables.read(path, SCREENED, _RANKED)
        ranked = rows["usefulness"].is_valid().to_numpy() & ~_is_of(rows["id"], formula)
        same = np.logical_and(*map(np.equal, system, _systems(elements_path)))
        if len(same) != len(rows):
            raise ValueError(
                f"{path}: of other candidates than '{elements_path}'; run `snakemake screening` to its end"
            )
        others.append(rows.filter(pa.array(ranked)))
        mates.append(same[ranked])
    table, mate = pa.concat_tables(others), np.concatenate(mates)
    theirs, ids = merits(table, criteria), table["id"].to_numpy()
    ahead = mate & ((theirs > merit) | ((theirs == merit) & (ids < formula)))
    place = int(ahead.sum()) + 1
    better = table.filter(pa.array(ahead)).select(["id", "usefulness", "rank"]).sort_by([("usefulness", "descending")])
    found = {"place": place, "better_in_system": better.to_pylist(), "n_ranked": len(table)}
    limit = criteria.max_per_chemical_system
    found["beaten"] = limit is not None and place > limit
    useful = float(np.exp(log_usefulness(merit, np.array([place]), criteria.weights))[0])
    usefulness = table["usefulness"].to_numpy()
    tied = (usefulness == useful) & ((theirs > merit) | ((theirs == merit) & (ids < formula)))
    found |= {"diversity": 1 / place, "usefulness": useful}
    return found | {"position": int(((usefulness > useful) | tied).sum()) + 1}


def _is_of(ids: pa.ChunkedArray, formula: str) -> np.ndarray:
    """Which samples are of a formula."""
    return pc.or_(pc.equal(ids, formula), pc.starts_with(ids, f"{formula}-")).to_numpy()


def _systems(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    return chemical_systems(Compositions.from_table(tables.read(path, PREDICTED, ["elements", "counts"])))


def _changed_since(campaign: Campaign) -> list[str]:
    """Keys of ``screening.select`` that are others now than when the campaign was screened."""
    path = campaign.results / "screening" / "selected.parquet"
    if not Path(path).is_file():
        return []
    before, now = tables.provenance(path).get("settings", {}), campaign.config["screening"]["select"]
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
