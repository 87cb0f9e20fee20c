"""Train the model that ranks templates: python -m benchmarks.structures.ranking --data FOLDER [--work FOLDER].

Writes ``resources/models/template_ranking``. Each stable compound of the Materials Project is a lesson: its own formula
is hidden from the library, and of the classes of crystals proposed the one that it has is right. The compounds that
``benchmarks.structures`` measures on are no lessons, and hidden from all of them.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
from tqdm import tqdm

from benchmarks.structures.known import MAX_SITES, SEED, WORK, targets
from benchmarks.structures.library import library_of
from pipeline import boosting
from pipeline.provenance import file_digest
from pipeline.structures.assign import MODEL, Library
from pipeline.structures.ranking import FEATURES, Group, classes

VALIDATION_SHARE = 0.1
SMALLEST_PART = 1e-3  # of the library: each compound is a lesson with all of it and one with a random part
SAME = 0.15  # natural logarithm of a distance
TRAINING = {"trees": 2000, "leaves": 31, "learning_rate": 0.04, "patience": 50}


CARD = """# template_ranking: LightGBM on likeness to known crystals

Says how probable it is that a formula takes the crystal of a template (`pipeline/structures/ranking.py`).

## Data
Materials Project (Jain et al. 2013, doi:10.1063/1.4812323; structures and hull distances of 2018 to 2019), CC BY 4.0,
from a file of SHA-256 `{digest}`: a library of {n_templates} templates, AFLOW's among them. A lesson is a compound
with hull distance 0 and at most {max_sites} sites: crystals of its own formula are hidden, and the class of crystals
that it has is right (space group, sites of the primitive cell, shortest distances between elements within 15 %). Each
compound is a lesson with the whole library, and one with a random part of it, down to a thousandth, so that small
libraries are judged rightly too. The weights are a derived work under the same licence (CC BY 4.0): name the source
when you use them.

Made with `python -m benchmarks.structures.ranking --data FOLDER`.

## Model
{features} features of a class into LightGBM, one probability out. {training}; {n_trees} trees were grown.

## Split
{n_training} lessons to train, {n_validation} to stop; the validation figures below are of the latter, and not of a
test. {n_hidden} compounds were hidden from all lessons, as lessons and as templates: `docs/structures.md` tests on
them.

## Validation
Right class first and among the first five. Crystals are told apart more finely here than by pymatgen's
`StructureMatcher`, which the test uses.

| library | lessons | first | five |
|---|---|---|---|
{validation}

| probability | classes | said, mean | were right |
|---|---|---|---|
{calibration}
"""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A compound's classes.

    Attributes:
        features_CF: See :data:`pipeline.structures.ranking.FEATURES`.
        right_C: Which is its crystal.
        whole: Whether the library was.
    """

    features_CF: np.ndarray
    right_C: np.ndarray
    whole: bool


def lessons(library: Library, hidden: frozenset[str]) -> Iterator[Lesson]:
    """Lessons of the stable compounds, those of ``hidden`` left out, in a random order of fixed seed."""
    random = np.random.default_rng(SEED)
    stable, seen = [], set(hidden)
    for position, row in enumerate(library.rows):
        small = row["n_sites"] <= MAX_SITES and len(row["elements"]) > 1
        if row["energy_above_hull_ev_per_atom"] == 0 and small and row["reference_formula"] not in seen:
            seen.add(row["reference_formula"])
            stable.append(position)
    for position in tqdm(random.permutation(stable), "lessons", unit=" compounds", mininterval=1):
        row = library.rows[position]
        group = library.group(row["counts"], hidden | {row["reference_formula"]})
        if group is None:
            continue
        yield _lesson(library, position, group, whole=True)
        part = random.random(len(group.positions_T)) < SMALLEST_PART ** random.random()
        if part.any():
            yield _lesson(library, position, group.take(part), whole=False)


def _lesson(library: Library, position: int, group: Group, whole: bool) -> Lesson:
    row = library.rows[position]
    found = classes(group, np.array(row["elements"]), row["oxidation_states"])
    slot_CE = np.argsort(found.order_CE, axis=1)
    contacts_CEE = group.log_contacts_TEE[found.template_C[:, None, None], slot_CE[:, :, None], slot_CE[:, None, :]]
    apart_C = np.abs(contacts_CEE - library.log_contacts(position)).max(axis=(1, 2))
    same_sites = group.n_sites_T[found.template_C] == row["n_sites"]
    same_group = group.space_groups_T[found.template_C] == row["space_group_number"]
    return Lesson(found.features_CF, same_group & same_sites & (apart_C < SAME), whole)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.ranking", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mp/")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made once")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    library = Library(library_of(arguments.data, arguments.work, arguments.processes), model_dir=None)
    hidden = frozenset(target.formula for target in targets(arguments.data, arguments.work))
    taught = list(lessons(library, hidden))
    n_validation = int(len(taught) * VALIDATION_SHARE)
    validation, training = taught[:n_validation], taught[n_validation:]
    booster = boosting.train(
        "binary", _stacked(training), _stacked(validation), **TRAINING, seed=SEED, threads=arguments.processes
    )
    MODEL.mkdir(parents=True, exist_ok=True)
    boosting.save(booster, MODEL / "classes.txt.gz")
    about = {
        "digest": file_digest(arguments.data / "mp" / "mp_structures.jsonl.gz"),
        "n_templates": len(library.rows),
        "n_training": len(training),
        "n_validation": n_validation,
        "n_trees": booster.num_trees(),
        "n_hidden": len(hidden),
        "validation": "\n".join(_measured(booster, validation, whole) for whole in (True, False)),
        "calibration": _calibration(booster, validation),
        "training": ", ".join(f"{name} {value}" for name, value in TRAINING.items()),
        "features": len(FEATURES),
    }
    (MODEL / "README.md").write_text(CARD.format(**about, max_sites=MAX_SITES))


def _measured(booster: lgb.Booster, validation: list[Lesson], whole: bool) -> str:
    chosen = [(booster.predict(one.features_CF), one.right_C) for one in validation if one.whole is whole]
    first = np.mean([right[np.argmax(said)] for said, right in chosen])
    five = np.mean([right[np.argsort(-said)[:5]].any() for said, right in chosen])
    return f"| {'all of it' if whole else 'a random part'} | {len(chosen)} | {first:.3f} | {five:.3f} |"


def _calibration(booster: lgb.Booster, validation: list[Lesson]) -> str:
    features_CF, right_C = _stacked(validation)
    said_C, lines = booster.predict(features_CF), []
    for low in np.arange(0, 1, 0.2):
        mine = (said_C >= low) & (said_C < low + 0.2)
        lines.append(
            f"| {low:.1f} to {low + 0.2:.1f} | {mine.sum()} | {said_C[mine].mean():.3f} | {right_C[mine].mean():.3f} |"
        )
    return "\n".join(lines)


def _stacked(taught: list[Lesson]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one.features_CF for one in taught]), np.concatenate([one.right_C for one in taught])


if __name__ == "__main__":
    main()
