"""How much a formula is like a made compound: learnt from known compounds and from charge-balanced formulas at large.

Positive and unlabelled learning (Elkan and Noto 2008, doi:10.1145/1401890.1401920; for compounds Jang et al. 2020,
doi:10.1021/jacs.0c07384, and Antoniuk et al. 2023, doi:10.1038/s41524-023-01114-4): nobody knows which of the others
cannot be made, so the classifier's output ranks them and is a probability only against as many unlabelled formulas as
known ones. Features: Magpie's, those of analogues among the known compounds, and how common the oxidation states are
that a formula needs.

Unlabelled formulas are drawn as a generator might draw them, so that a candidate, or a compound that was held out, may
be one. Lest it be judged by a model that was told that it is not known, formulas are sorted into folds by a hash, and
each is judged by the model that saw nothing of its own fold.

Suffixes: N formulas.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.evaluation.baselines import random, substitution
from pipeline.evaluation.likelihood import likelihood
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import Rules
from pipeline.provenance import derived_seed
from pipeline.screening import boosted
from pipeline.screening.analogues import KNOWN_FILE, Analogues
from pipeline.screening.features import magpie
from pipeline.screening.labelled import VALIDATION, three_way_split
from pipeline.screening.learners import Inputs
from pipeline.screening.models import DESCRIPTION_FILE, digests

LIKENESS = "likeness"
FOLDS = 4
MIN_POSITIVES = 200
MAX_POSITIVES = 100_000
VALIDATION_SHARE = 0.1
IN_VAIN = 20
TRAINING = boosted.BoostedTraining(max_trees=400, leaves=63, learning_rate=0.06, patience=30)
_LEAST = -20.0  # stands for no states at all: ln of a likelihood


@dataclass(frozen=True)
class Likeness:
    """A trained classifier and the known compounds that it looks analogues up in.

    Attributes:
        boosters: The classifier of each fold, which did not see it.
        fold_seed: What sorts formulas into folds.
        analogues: Known compounds; their values are energies above the hull, where the database has them.
        vocabulary: Atomic numbers of the elements that it knows, ascending.
    """

    boosters: tuple[boosted.Boosted, ...]
    fold_seed: int
    analogues: Analogues
    vocabulary: list[int]

    def predict(self, compositions: Compositions, magpie_NF: np.ndarray, threads: int) -> np.ndarray:
        """Likeness of each formula, 0 to 1; float64 of shape (N,)."""
        rows, fold = _inputs(compositions, magpie_NF, self.analogues), _folds(compositions, self.fold_seed)
        found = np.empty(len(rows))
        for number, booster in enumerate(self.boosters):
            found[fold == number] = booster.predict(rows.take(fold == number), threads)
        return found

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Likeness | None":
        """Read a folder; None where there was too little to learn from.

        Raises:
            ValueError: The model is missing or damaged.
        """
        path = Path(folder) / DESCRIPTION_FILE
        if not path.is_file():
            raise ValueError(f"{folder}: no model of likeness here; rerun the rule train_likeness")
        description = tables.read_json(path)
        if not isinstance(description, dict) or description.get("target") != LIKENESS:
            raise ValueError(f"{path}: no description of a model of likeness; delete it and rerun train_likeness")
        if description.get("untrained_because"):
            return None
        if description.get("sha256") != digests(Path(folder)):
            raise ValueError(f"{path}: the weights beside it are others than it lists; rerun train_likeness")
        analogues = Analogues.load(Path(folder) / KNOWN_FILE)
        vocabulary = np.unique(analogues.known.elements).tolist()
        boosters = tuple(boosted.Boosted.load(_weights(Path(folder), fold), vocabulary) for fold in range(FOLDS))
        return cls(boosters, description["seed"], analogues, vocabulary)


def train_likeness(
    *,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike,
    folder: str | os.PathLike,
    rules: Rules,
    max_energy_above_hull_ev_per_atom: float | None,
    seed: int,
    threads: int = 1,
    provenance: dict | None = None,
) -> None:
    """Train on the entries that are not held out, and write the model.

    Args:
        entries_path, split_path: Tables of the stages before.
        folder: Where the model goes.
        rules: The campaign's filter: only what passes it is compared.
        max_energy_above_hull_ev_per_atom: Entries above it are no examples of made compounds; entries without a value
            are. None takes all.
        seed: Of the unlabelled formulas, the split and the trees.
        threads: Threads of LightGBM.
        provenance: Kept in the description and the table.
    """
    entries = tables.read(entries_path, ENTRIES, ["id", "elements", "counts", "energy_above_hull_ev_per_atom"])
    split = tables.read(split_path, SPLIT, ["id", "held_out"])
    held_out = split.filter(split["held_out"])["id"].combine_chunks()
    entries = entries.filter(pc.invert(pc.is_in(entries["id"], value_set=held_out)))
    known = Compositions.from_table(entries).reduced()
    above_hull = entries["energy_above_hull_ev_per_atom"].to_numpy()
    order = np.argsort(above_hull, kind="stable")  # of polymorphs the lowest, NaN last
    first, _ = known.take(order).unique()
    kept = np.sort(order[first])
    description = fit(
        known.take(kept),
        above_hull[kept],
        Path(folder),
        rules,
        max_energy_above_hull_ev_per_atom,
        seed,
        threads,
        provenance,
    )
    print(description, flush=True)


def fit(
    known: Compositions,
    above_hull: np.ndarray,
    folder: Path,
    rules: Rules,
    max_energy_above_hull_ev_per_atom: float | None,
    seed: int,
    threads: int,
    provenance: dict | None = None,
) -> dict:
    """Train on distinct known formulas and their energies above the hull (NaN: none); returns the description."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in [DESCRIPTION_FILE, *digests(folder)]):
        path.unlink(missing_ok=True)
    description = {"target": LIKENESS, "rules": asdict(rules), "seed": seed, "provenance": provenance or {}}
    made = np.ones(len(known), dtype=bool)
    if max_energy_above_hull_ev_per_atom is not None:
        made = ~(above_hull > max_energy_above_hull_ev_per_atom)
    made &= (known.n_elements >= 2) & (known.n_elements <= 8)
    positives = known.take(made & assess(known, rules).smact_valid)
    if len(positives) < MIN_POSITIVES:
        reason = f"{len(positives)} known formulas pass the filter, at least {MIN_POSITIVES} are needed"
        tables.write_json(folder / DESCRIPTION_FILE, {**description, "untrained_because": reason})
        return {**description, "untrained_because": reason}
    rng = np.random.default_rng(derived_seed(seed, "likeness"))
    positives = positives.take(np.sort(rng.permutation(len(positives))[:MAX_POSITIVES]))
    unlabelled = _unlabelled(known, len(positives), rules, seed)
    analogues = Analogues(known, None if np.isnan(above_hull).all() else above_hull)
    examples = concatenate([positives, unlabelled])
    is_known = np.arange(len(examples)) < len(positives)
    rows, fold = _inputs(examples, magpie(examples), analogues), _folds(examples, seed)
    vocabulary = np.unique(known.elements).tolist()
    said = np.empty(len(examples))
    stops = three_way_split(examples, VALIDATION_SHARE, 0.0, derived_seed(seed, "stop")) == VALIDATION
    for number in range(FOLDS):
        seen, unseen = fold != number, fold == number
        booster = boosted.fit(
            rows.take(seen & ~stops),
            is_known[seen & ~stops],
            rows.take(seen & stops),
            is_known[seen & stops],
            task="classification",
            vocabulary=vocabulary,
            settings=TRAINING,
            seed=derived_seed(seed, "likeness trees", number),
            threads=threads,
            report=lambda row: print(row, flush=True),
        )
        with tables.atomic(_weights(folder, number)) as path:
            booster.save(path)
        said[unseen] = booster.predict(rows.take(unseen), threads)
    analogues.save(folder / KNOWN_FILE, provenance)
    from sklearn.metrics import roc_auc_score

    description |= {
        "elements": [SYMBOLS[z - 1] for z in vocabulary],
        "rows": {"known": len(positives), "unlabelled": len(unlabelled)},
        "roc_auc_of_unseen": float(roc_auc_score(is_known, said)),
        "sha256": digests(folder),
    }
    tables.write_json(folder / DESCRIPTION_FILE, description)
    return description


def _folds(compositions: Compositions, seed: int) -> np.ndarray:
    """Fold of each formula by a hash of it, 0 to ``FOLDS`` - 1; shape (N,)."""
    with np.errstate(over="ignore"):
        mixed = (compositions.hashes() ^ np.uint64(derived_seed(seed, "folds"))) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)) % FOLDS


def _weights(folder: Path, fold: int) -> Path:
    return folder / f"likeness-{fold}.{boosted.SUFFIX}"


def _inputs(compositions: Compositions, magpie_NF: np.ndarray, analogues: Analogues) -> Inputs:
    states = np.round(np.maximum(likelihood(compositions), _LEAST), 10)
    return Inputs(compositions, np.column_stack([magpie_NF, states, analogues.features(compositions)]))


def _unlabelled(known: Compositions, n: int, rules: Rules, seed: int) -> Compositions:
    """Formulas that pass the filter and are not known: half random ones, half known ones with elements exchanged.

    Fewer than ``n`` where draw after draw brings nothing new.
    """
    shapes = known.take((known.n_elements >= 2) & (known.n_elements <= 8))
    found = []
    for kind, draw in (("random", random), ("substitution", substitution)):
        batches, total, in_vain, rounds = [], 0, 0, 0
        while total < n // 2 and in_vain < IN_VAIN:
            drawn = draw(shapes, max(4 * n, 1000), derived_seed(seed, kind, rounds) % (1 << 62))
            rounds += 1
            drawn = drawn.take(assess(drawn, rules).smact_valid)
            drawn = drawn.take(~drawn.contained_in(known))
            batch = concatenate([*batches, drawn])
            batch = batch.take(batch.unique()[0][: n // 2])
            in_vain = in_vain + 1 if len(batch) == total else 0
            batches, total = [batch], len(batch)
        found += batches
    return concatenate(found)
