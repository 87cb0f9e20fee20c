"""Hull distances are those of pymatgen's ``PhaseDiagram``, on real energies and where phases coincide."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.hull import Hull

MG, OX, SI, LI, FE, P, MN, CO = 12, 8, 14, 3, 26, 15, 25, 27
EIGHT = (LI, OX, MG, SI, P, MN, FE, CO)


def entry(amounts: dict[int, int], energy_ev_per_atom: float) -> PDEntry:
    name = Compositions.from_dicts([amounts]).reduced().formulas()[0].as_py()
    symbols = {SYMBOLS[z - 1]: n for z, n in amounts.items()}
    return PDEntry(symbols, energy_ev_per_atom * sum(amounts.values()), name=name)


def dicts(compositions: Compositions) -> list[dict[int, int]]:
    columns = (column.to_pylist() for column in compositions.columns().values())
    return [dict(zip(*row, strict=True)) for row in zip(*columns, strict=True)]


def assert_equal(
    references: list[dict[int, int]], energies: np.ndarray, candidates: list[dict[int, int]], *, unique: bool
) -> None:
    """Distances within 1e-9 eV/atom, and the same phases where only one set of them is the lowest."""
    rng = np.random.default_rng(0)
    scale = np.abs(energies).max()
    own = rng.normal(-0.5, 0.5, len(candidates)) * scale
    hull = Hull(Compositions.from_dicts(references), energies)
    found = hull.distances(Compositions.from_dicts(candidates), own)
    diagrams: dict[frozenset[int], PhaseDiagram] = {}
    for place, (candidate, energy) in enumerate(zip(candidates, own, strict=True)):
        system = frozenset(candidate)
        within = [(one, e) for one, e in zip(references, energies, strict=True) if one.keys() <= system]
        if system not in diagrams:
            diagrams[system] = PhaseDiagram([entry(one, e) for one, e in within])
        theirs = entry(candidate, energy)
        phases, above = diagrams[system].get_decomp_and_e_above_hull(theirs, allow_negative=True, check_stable=False)
        mine = found[place]
        assert mine.n_references == len(within)
        assert mine.formation_energy_ev_per_atom == pytest.approx(
            diagrams[system].get_form_energy_per_atom(theirs), rel=0, abs=1e-9
        )
        if len(system) > 1 and all(len(one) == 1 for one, _ in within):
            assert mine.energy_above_hull_ev_per_atom is None
            continue
        assert mine.energy_above_hull_ev_per_atom == pytest.approx(above, rel=0, abs=1e-9), (candidate, phases)
        assert found.energy_above_hull_ev_per_atom[place] == mine.energy_above_hull_ev_per_atom
        assert sum(share for _, share in mine.decomposition) == pytest.approx(1, abs=1e-9)
        if unique:
            assert dict(mine.decomposition) == pytest.approx({one.name: share for one, share in phases.items()})


def random_formula(rng: np.random.Generator, elements, n_elements: int, largest: int = 8) -> dict[int, int]:
    return {int(z): int(rng.integers(1, largest + 1)) for z in rng.choice(elements, n_elements, replace=False)}


def grown(rng: np.random.Generator, known: list[dict[int, int]], elements, n: int) -> list[dict[int, int]]:
    """Formulas of known systems and of such with up to three elements more; some formulas are known ones."""
    formulas = []
    for place in rng.integers(0, len(known), n):
        more = rng.choice(elements, rng.integers(0, 4), replace=False)
        formulas.append({z: int(rng.integers(1, 9)) for z in dict.fromkeys([*known[place], *map(int, more)])})
    return [*formulas, *(known[place] for place in rng.integers(0, len(known), n // 4))]


@pytest.mark.parametrize(
    ("path", "formula", "n"),
    [("mp/mp.csv.gz", "reduced_formula", 60), ("oqmd/oqmd.csv.gz", "formula", 12)],
    ids=["Materials Project", "OQMD"],
)
def test_real_formation_energies(data, path, formula, n):
    rows = pd.read_csv(data / path, usecols=[formula, "formation_energy_per_atom"]).dropna()
    compositions = Compositions.from_formulas(rows[formula])
    present = np.unique(compositions.elements)
    compounds = compositions.n_elements > 1
    references = dicts(concatenate([compositions.take(compounds), Compositions.from_dicts([{z: 1} for z in present])]))
    energies = np.concatenate([rows.formation_energy_per_atom[compounds], np.zeros(len(present))])
    candidates = grown(np.random.default_rng(1), references, present, n)
    assert max(map(len, candidates)) >= 6
    assert_equal(references, energies, candidates, unique=True)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("n_elements", [1, 2, 3, 4, 5, 6, 7, 8])
def test_random_energies(n_elements, scale):
    rng = np.random.default_rng(n_elements)
    elements = EIGHT[:n_elements]
    references = [{z: 1} for z in elements]
    references += [
        random_formula(rng, elements, rng.integers(1, n_elements + 1)) for _ in range(60 if n_elements < 7 else 30)
    ]
    energies = scale * rng.normal(-1, 0.4, len(references))
    candidates = [random_formula(rng, elements, rng.integers(1, n_elements + 1)) for _ in range(40)]
    candidates += [random_formula(rng, elements, n_elements, 100) for _ in range(20)] + references[:20]
    assert_equal(references, energies, candidates, unique=True)


def coinciding(
    rng: np.random.Generator, of: Callable[[dict[int, int]], float]
) -> tuple[list[dict[int, int]], np.ndarray]:
    """References of four elements, many at the same compositions and on common lines, with energies by ``of``."""
    elements = EIGHT[:4]
    references = [{z: 1} for z in elements]
    references += [random_formula(rng, elements, rng.integers(2, 5), 3) for _ in range(60)]
    references += [{z: 2 * n for z, n in one.items()} for one in references[::5]]
    return references, np.array([of(one) for one in references])


@pytest.mark.parametrize(
    "energy",
    [
        pytest.param(lambda one: -1.0 if len(one) > 1 else 0.0, id="all compounds alike"),
        pytest.param(lambda one: 0.0, id="all on the plane of the elements"),
        pytest.param(
            lambda one: -float(one.get(OX, 0) / sum(one.values())), id="all on one plane, elements among them"
        ),
        pytest.param(
            lambda one: -sum(one.get(a, 0) * one.get(b, 0) for a, b in ((LI, OX), (MG, SI))) / sum(one.values()) ** 2,
            id="concave along lines",
        ),
        pytest.param(
            lambda one: -min(one.get(LI, 0), one.get(OX, 0)) / sum(one.values()),
            id="all on tie lines to LiO",
        ),
        pytest.param(
            lambda one: round(-(sum(n * n for n in one.values()) ** 0.5) / sum(one.values()), 1) * (len(one) > 1),
            id="few levels",
        ),
    ],
)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_where_phases_coincide(energy, scale):
    rng = np.random.default_rng(3)
    references, energies = coinciding(rng, energy)
    candidates = references + [random_formula(rng, EIGHT[:4], rng.integers(1, 5)) for _ in range(60)]
    assert_equal(references, scale * energies if energies.any() else energies + 1e-3, candidates, unique=False)


@pytest.mark.parametrize("n_elements", [2, 3, 4, 5, 6])
def test_compositions_that_hardly_differ(n_elements):
    """Against exact arithmetic: where compositions differ by 1e-5, pymatgen drops facets for their small volume."""
    rng = np.random.default_rng(n_elements)
    elements = EIGHT[:n_elements]
    references = [{z: 1} for z in elements]
    for _ in range(40):
        one = random_formula(rng, elements, rng.integers(2, n_elements + 1), 65000)
        references += [{z: n + int(rng.integers(0, more + 1)) for z, n in one.items()} for more in (0, 1, 7, 300)]
    energies = rng.normal(-1, 10.0 ** rng.integers(-6, -1), len(references))
    energies[:n_elements] = 0
    hull = Hull(Compositions.from_dicts(references), energies)
    candidates = [random_formula(rng, elements, n_elements, 65000) for _ in range(20)]
    found = hull.distances(Compositions.from_dicts(candidates), np.zeros(20))
    known = dicts(hull.compositions)
    lowest = [Fraction(energy) for energy in hull.energies_ev_per_atom]
    for place, candidate in enumerate(candidates):
        phases = found.phases[n_elements * place : n_elements * (place + 1)]
        assert (phases >= 0).all()
        vertices = [exact(known[phase], elements) for phase in phases]
        shares = solved(np.transpose(vertices).tolist(), exact(candidate, elements))
        potentials = solved(vertices, [lowest[phase] for phase in phases])
        assert min(shares) >= -1e-12
        energy = sum(share * lowest[phase] for share, phase in zip(shares, phases, strict=True))
        assert found.energy_above_hull_ev_per_atom[place] == pytest.approx(-float(energy), rel=0, abs=1e-9)
        for formula, own in zip(known, lowest, strict=True):
            mixed = sum(x * y for x, y in zip(exact(formula, elements), potentials, strict=True))
            assert own - mixed >= -1e-9


def exact(formula: dict[int, int], elements) -> list[Fraction]:
    return [Fraction(formula.get(z, 0), sum(formula.values())) for z in elements]


def solved(rows: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Solution of linear equations by elimination."""
    rows = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(len(rows)):
            if i != k:
                rows[i] = [value - rows[i][k] * other for value, other in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


def test_elements_without_reference_give_null_and_a_reason():
    rng = np.random.default_rng(4)
    references = [{z: 1} for z in EIGHT[:4]] + [random_formula(rng, EIGHT, 3) for _ in range(40)]
    hull = Hull(Compositions.from_dicts(references), rng.normal(-1, 0.3, len(references)))
    candidates = [random_formula(rng, EIGHT, rng.integers(1, 6)) for _ in range(200)]
    found = hull.distances(Compositions.from_dicts(candidates), np.full(200, -1.0))
    for place, (candidate, reason) in enumerate(zip(candidates, found.reasons(), strict=True)):
        missing = {SYMBOLS[z - 1] for z in candidate} - {SYMBOLS[z - 1] for z in EIGHT[:4]}
        one = found[place]
        assert one.n_references == sum(reference.keys() <= candidate.keys() for reference in references)
        assert set(one.missing) == missing
        if missing:
            assert reason == f"no reference energy of {', '.join(one.missing)}"
            assert np.isnan(found.energy_above_hull_ev_per_atom[place])
            assert (one.energy_above_hull_ev_per_atom, one.formation_energy_ev_per_atom, one.text) == (None,) * 3
