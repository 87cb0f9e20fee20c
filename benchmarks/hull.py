"""Hull distances of generated formulas against pymatgen's ``PhaseDiagram``, one for each chemical system."""

import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pyarrow.csv

from benchmarks.compare import compare, timed
from benchmarks.formulas import embedded
from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.hull import Hull

_SHIPPED = Path("resources/models/formation_energy_oqmd")
_TOLERANCE_EV_PER_ATOM = 1e-9
_MOST_ELEMENTS = 8
_CANDIDATES = 100_000


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`. On one core.

    Ours makes the hulls and treats all candidates. pymatgen treats those of randomly chosen systems: it makes a diagram
    of each and asks it; its entries are made beforehand. The rates once hulls and diagrams are made stand beside them.
    The references are the Materials Project's where KIMBERLITE_DATA has them, else the embedded database's formulas
    with energies by the shipped model.
    """
    compositions, energies, named = _references()
    candidates = _candidates(compositions, _CANDIDATES)
    own = np.random.default_rng(1).normal(-0.5, 0.5, len(candidates))
    chosen, systems = _of_some_systems(candidates, 80 if quick else 400)
    few, few_energies = candidates.take(chosen), own[chosen]
    hull = Hull(compositions, energies)  # compiled, as every run after the first finds it
    hull.distances(few, few_energies)
    peer = _Peer(compositions, energies)
    figures = compare(
        lambda: Hull(compositions, energies).distances(candidates, own).energy_above_hull_ev_per_atom[chosen],
        lambda: peer.distances(few, few_energies),
        len(candidates),
        _difference,
        n_reference=len(few),
    )
    _, seconds = timed(lambda: hull.distances(candidates, own))
    _, slow_seconds = timed(lambda: peer.distances(few, few_energies, made=True))
    built, slow_built = len(candidates) / seconds, len(few) / slow_seconds
    return figures | {
        "references": f"{len(compositions):,}, {named}",
        "candidates": len(candidates),
        "systems_of_reference": systems,
        "hulls_made": {
            "ours_per_s": round(built),
            "reference_per_s": round(slow_built, 1),
            "ratio": round(built / slow_built),
        },
    }


def _references() -> tuple[Compositions, np.ndarray, str]:
    """Compounds with their formation energies, elements at 0, and what they are."""
    path = Path(os.environ.get("KIMBERLITE_DATA", "")) / "mp" / "mp.csv.gz"
    if path.is_file():
        rows = pyarrow.csv.read_csv(path).select(["reduced_formula", "formation_energy_per_atom"]).drop_null()
        compounds = Compositions.from_formulas(rows["reduced_formula"].to_pylist())
        energies, named = rows["formation_energy_per_atom"].to_numpy(), "Materials Project"
    else:
        compounds, energies = _predicted(embedded(50_000))
        named = "formulas of the embedded database with formation energies by the shipped model"
    kept = compounds.n_elements > 1
    elements = Compositions.from_dicts({int(z): 1} for z in np.unique(compounds.elements))
    energies = np.concatenate([energies[kept], np.zeros(len(elements))])
    return concatenate([compounds.take(kept), elements]), energies, named


def _predicted(compositions: Compositions) -> tuple[Compositions, np.ndarray]:
    from pipeline.screening.features import magpie
    from pipeline.screening.models import FORMATION_ENERGY, PropertyModel

    model = PropertyModel.load(_SHIPPED, FORMATION_ENERGY)
    outside = compositions.rows[~np.isin(compositions.elements, model.estimator.vocabulary)]
    known = compositions.take(np.setdiff1d(np.arange(len(compositions)), outside))
    return known, model.predict(known, magpie(known), threads=1).value


def _candidates(references: Compositions, n: int) -> Compositions:
    """Distinct formulas that are no references: known ones with one element exchanged and one count changed."""
    rng = np.random.default_rng(0)
    usable = references.take((references.n_elements > 1) & (references.n_elements <= _MOST_ELEMENTS))
    made = usable.take(rng.integers(0, len(usable), 2 * n))
    elements, counts = made.elements.copy(), made.counts.copy()
    exchanged, changed = (made.offsets[:-1] + rng.integers(0, made.n_elements) for _ in range(2))
    elements[exchanged] = rng.choice(np.unique(references.elements), len(made))
    counts[changed] = rng.integers(1, 9, len(made))
    pairs = made.rows.astype(np.int64) * (len(SYMBOLS) + 1) + elements
    repeated = np.bincount(made.rows, minlength=len(made)) != np.bincount(
        np.unique(pairs) // (len(SYMBOLS) + 1), minlength=len(made)
    )
    made = Compositions.from_pairs(made.rows, elements, counts, len(made)).take(~repeated).reduced()
    made = made.take(~made.contained_in(references.reduced()))
    return made.take(made.unique()[0][:n])


def _of_some_systems(candidates: Compositions, n: int) -> tuple[np.ndarray, int]:
    """Places of all candidates in randomly chosen systems, at least n, and the number of systems."""
    of_system = defaultdict(list)
    for place, system in enumerate(_systems(candidates)):
        of_system[system].append(place)
    found: list[int] = []
    systems = sorted(of_system, key=sorted)
    order = np.random.default_rng(2).permutation(len(systems))
    n_systems = 0
    while len(found) < n:
        found += of_system[systems[order[n_systems]]]
        n_systems += 1
    return np.array(found), n_systems


def _systems(compositions: Compositions) -> list[frozenset[int]]:
    return [frozenset(elements) for elements in compositions.columns()["elements"].to_pylist()]


class _Peer:
    """pymatgen's diagrams, each of the references within a chemical system."""

    def __init__(self, compositions: Compositions, energies: np.ndarray) -> None:
        self._entries, self._diagrams = defaultdict(list), {}
        for system, entry in zip(_systems(compositions), _entries(compositions, energies), strict=True):
            self._entries[system].append(entry)

    def distances(self, compositions: Compositions, energies: np.ndarray, made: bool = False) -> np.ndarray:
        """Energies above the hull; NaN where there are references of elements only."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        if not made:
            self._diagrams = {}
        above = np.full(len(compositions), np.nan)
        for row, (system, entry) in enumerate(
            zip(_systems(compositions), _entries(compositions, energies), strict=True)
        ):
            if system not in self._diagrams:
                within = self._within(system)
                self._diagrams[system] = PhaseDiagram(within) if len(within) > len(system) else None
            if self._diagrams[system] is not None:
                _, above[row] = self._diagrams[system].get_decomp_and_e_above_hull(
                    entry, allow_negative=True, check_stable=False
                )
        return above

    def _within(self, system: frozenset[int]) -> list:
        parts = chain.from_iterable(combinations(sorted(system), n) for n in range(1, len(system) + 1))
        return [entry for part in parts for entry in self._entries.get(frozenset(part), ())]


def _entries(compositions: Compositions, energies: Sequence[float] | np.ndarray) -> list:
    from pymatgen.analysis.phase_diagram import PDEntry

    columns = (column.to_pylist() for column in compositions.columns().values())
    return [
        PDEntry({SYMBOLS[z - 1]: n for z, n in zip(elements, counts, strict=True)}, energy * sum(counts))
        for elements, counts, energy in zip(*columns, energies, strict=True)
    ]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    apart = np.abs(ours - theirs)
    unlike = (np.isnan(ours) != np.isnan(theirs)) | (apart > _TOLERANCE_EV_PER_ATOM)
    return int(unlike.sum()), float(np.nanmax(apart))
