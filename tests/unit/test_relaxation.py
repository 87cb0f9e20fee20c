"""Relaxation against CHGNet and ASE themselves, with real potentials only."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from pipeline.cells import Cell
from pipeline.structures import potentials, relax
from pipeline.structures.chgnet_batches import BatchedCHGNet
from pipeline.structures.descent import Descent, symmetrised
from pipeline.structures.relax import Relaxed, chunks_of, relax_all
from pipeline.structures.relax_batch import (
    FAILED,
    GPA_PER_EV_PER_A3,
    ISOLATED_ATOM,
    NO_CRYSTAL,
    NOT_FINITE,
    TOO_CLOSE_RELAXED,
    TOO_CLOSE_UNRELAXED,
    TOO_MANY_ATOMS,
    UNKNOWN_ELEMENT,
    VOLUME_CHANGED,
    relax_batch,
)
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.symmetry import symmetry

CUBE = np.eye(3)
QUICK = RelaxationSettings(max_steps=3)
LENNARD_JONES = {"potential": "ase.calculators.lj:LennardJones", "arguments": {"sigma": 3.0, "epsilon": 0.1, "rc": 9.0}}
COPPER_GOLD = RelaxationSettings(potential="ase.calculators.emt:EMT", fmax_ev_per_angstrom=0.01)
TWO_STEPS = RelaxationSettings(potential="ase.calculators.emt:EMT", max_steps=2)


def cell_of(lattice, elements, fractional) -> Cell:
    return Cell(np.array(lattice, float), np.array(elements, np.uint8), np.array(fractional, float).reshape(-1, 3))


def rock_salt(cation: int, anion: int, a: float) -> Cell:
    return cell_of(a / 2 * (1 - CUBE), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite(a_site: int, b_site: int, anion: int, a: float) -> Cell:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return cell_of(a * CUBE, [a_site, b_site, anion, anion, anion], sites)


def rutile(cation: int, anion: int, a: float, c: float, x: float) -> Cell:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [x, x, 0], [-x, -x, 0], [0.5 + x, 0.5 - x, 0.5], [0.5 - x, 0.5 + x, 0.5]]
    return cell_of(np.diag([a, a, c]), [cation, cation, *[anion] * 4], sites)


def shaken(cell: Cell, angstrom: float, strain: float, seed: int = 0) -> Cell:
    random = np.random.default_rng(seed)
    moved = random.normal(0, angstrom, cell.fractional.shape) @ np.linalg.inv(cell.lattice)
    return Cell(cell.lattice @ (CUBE + random.normal(0, strain, (3, 3))), cell.elements, cell.fractional + moved)


CRYSTALS = [
    rock_salt(12, 8, 4.3),
    shaken(perovskite(38, 22, 8, 3.95), 0.05, 0.01),
    shaken(rutile(22, 8, 4.65, 2.97, 0.305), 0.05, 0.01),
    shaken(rock_salt(55, 53, 7.9), 0.05, 0.01),  # no two atoms near enough for an angle
    cell_of(2.87 * CUBE, [26, 26], [[0, 0, 0], [0.5, 0.5, 0.5]]),
]


@pytest.fixture(scope="module")
def chgnet() -> BatchedCHGNet:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield BatchedCHGNet("cpu")
    torch.set_num_threads(threads)


class AsCalculator(Calculator):
    """A potential of ours for ASE."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, potential):
        super().__init__()
        self.potential = potential

    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        cell = Cell(np.array(atoms.cell), atoms.numbers.astype(np.uint8), atoms.get_scaled_positions(wrap=False))
        (found,) = self.potential.evaluate([cell])
        energy = {"energy": found.energy_ev, "free_energy": found.energy_ev}
        self.results = {**energy, "forces": found.forces_N3, "stress": found.stress_33}


def atoms_of(cell: Cell) -> Atoms:
    return Atoms(cell.elements, cell=cell.lattice, scaled_positions=cell.fractional, pbc=True)


def same(one: Relaxed | str, other: Relaxed | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    arrays = [(getattr(one.cell, name), getattr(other.cell, name)) for name in vars(one.cell)]
    rest = [{name: value for name, value in vars(it).items() if name != "cell"} for it in (one, other)]
    return rest[0] == rest[1] and all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in arrays)


# --- the potential


def test_a_batch_equals_chgnet(chgnet):
    from chgnet.model.model import CHGNet

    with redirect_stdout(io.StringIO()):
        model = CHGNet.load(use_device="cpu", verbose=False)
    theirs = model.predict_structure([cell.to_structure() for cell in CRYSTALS], task="efs")
    for cell, ours, their in zip(CRYSTALS, chgnet.evaluate(CRYSTALS), theirs, strict=True):
        assert ours.energy_ev / len(cell.elements) == pytest.approx(float(their["e"]), abs=1e-5)
        assert ours.forces_N3 == pytest.approx(their["f"], abs=1e-5 * max(1.0, float(np.abs(their["f"]).max())))
        gpa = ours.stress_33 * GPA_PER_EV_PER_A3
        assert gpa == pytest.approx(their["s"], abs=1e-5 * max(10.0, float(np.abs(their["s"]).max())))


def test_forces_and_stress_are_the_energys_slopes(chgnet):
    cell, h = CRYSTALS[1], 1e-2
    (here,) = chgnet.evaluate([cell])
    move, strain = np.zeros((5, 3)), np.zeros((3, 3))
    move[2, 1], strain[0, 2], strain[2, 0] = h, h / 2, h / 2
    by_hand = []
    for sign in (1, -1):
        moved = Cell(cell.lattice, cell.elements, cell.fractional + sign * move @ np.linalg.inv(cell.lattice))
        strained = Cell(cell.lattice @ (CUBE + sign * strain), cell.elements, cell.fractional)
        by_hand.append([found.energy_ev for found in chgnet.evaluate([moved, strained])])
    on_atom, on_cell = (np.array(by_hand[0]) - by_hand[1]) / (2 * h)
    assert here.forces_N3[2, 1] == pytest.approx(-on_atom, abs=5e-3)
    assert here.stress_33[0, 2] * cell.volume == pytest.approx(on_cell, abs=5e-2)


def test_a_batch_too_large_for_the_memory_is_halved(chgnet, monkeypatch):
    whole, at_once = chgnet.evaluate(CRYSTALS), BatchedCHGNet._evaluate_at_once

    def small_memory(self, cells):
        if len(cells) > 2:
            raise torch.OutOfMemoryError("full")
        return at_once(self, cells)

    monkeypatch.setattr(BatchedCHGNet, "_evaluate_at_once", small_memory)
    monkeypatch.setattr(chgnet, "atoms_a_batch", 128)
    for one, other in zip(whole, chgnet.evaluate(CRYSTALS), strict=True):
        assert one.energy_ev == pytest.approx(other.energy_ev, abs=1e-4)
    assert chgnet.atoms_a_batch == 32  # 5 cells, then the larger half of 3


# --- the path


@pytest.mark.parametrize("crystal", [1, 2])
def test_the_path_is_that_of_ase(chgnet, crystal):
    start = CRYSTALS[crystal]
    atoms = atoms_of(start)
    atoms.calc = AsCalculator(chgnet)
    fire = FIRE(FrechetCellFilter(atoms), logfile=None)
    energies = [atoms.get_potential_energy() for _ in fire.irun(fmax=0.05, steps=25)]
    settings = RelaxationSettings(max_steps=25, keep_symmetry=False)
    found = relax_batch([CRYSTALS[3], start, CRYSTALS[0]], settings, chgnet)[1]
    assert found.n_steps == fire.nsteps > 5
    assert found.converged == (fire.nsteps < 25)
    assert found.energy_ev_per_atom == pytest.approx(energies[-1] / len(atoms), abs=1e-5)
    assert found.cell.lattice == pytest.approx(np.array(atoms.cell), abs=1e-3)
    assert found.maximum_force_ev_per_angstrom == pytest.approx(
        np.linalg.norm(atoms.get_forces(), axis=1).max(), abs=2e-3
    )


def test_the_symmetric_path_is_that_of_ases_fix_symmetry():
    potential = potentials.load(COPPER_GOLD, "cpu")
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.52], [0, 0.5, 0.52]]
    start, operations = symmetrised(cell_of(np.diag([3.8, 3.8, 4.1]), [79, 79, 29, 29], sites), 0.01)
    atoms = atoms_of(start)
    atoms.calc = AsCalculator(potential)
    atoms.set_constraint(FixSymmetry(atoms))
    fire = FIRE(FrechetCellFilter(atoms), logfile=None)
    fire.run(fmax=0.01, steps=40)
    descent = Descent(start, operations)
    for _ in range(fire.nsteps):
        (here,) = potential.evaluate([descent.cell])
        descent.step(descent.forces(here, descent.cell.volume))
    assert fire.nsteps > 5
    assert descent.cell.lattice == pytest.approx(np.array(atoms.cell), abs=1e-9)
    assert symmetry(descent.cell, 1e-5).number == symmetry(start, 1e-5).number > 2


def test_force_on_the_cell_counts_for_convergence():
    squeezed = cell_of(3.0 * (1 - CUBE) / np.sqrt(2) * 0.8, [29], [[0, 0, 0]])  # no force on its one atom, ever
    settings = RelaxationSettings(**vars(COPPER_GOLD) | {"max_steps": 2})
    (found,) = relax_batch([squeezed], settings, potentials.load(settings, "cpu"))
    assert found.maximum_force_ev_per_angstrom < 1e-9
    assert found.maximum_stress_gpa > 1
    assert not found.converged


# --- symmetry


@pytest.mark.parametrize("cell", [CRYSTALS[0], perovskite(38, 22, 8, 3.95), rutile(22, 8, 4.65, 2.97, 0.305)])
def test_a_cell_is_moved_onto_its_symmetry(cell):
    near = shaken(cell, 5e-4, 1e-4)
    ideal, operations = symmetrised(near, 0.01)
    number = symmetry(cell, 1e-5).number
    assert symmetry(near, 1e-5).number != number
    assert symmetry(ideal, 1e-7).number == number
    assert np.abs(ideal.lattice - near.lattice).max() < 0.01
    assert np.abs((ideal.fractional - near.fractional) @ near.lattice).max() < 0.01
    turned = operations.rotations_K33 @ operations.rotations_K33.transpose(0, 2, 1)
    assert turned == pytest.approx(np.broadcast_to(CUBE, turned.shape), abs=1e-9)


def test_symmetry_is_kept_where_free_relaxation_breaks_it(chgnet):
    ideal = perovskite(56, 22, 8, 4.1)  # barium titanate: cubic only where it must be
    start = shaken(ideal, 1e-3, 0)
    free = RelaxationSettings(max_steps=150, fmax_ev_per_angstrom=0.02, keep_symmetry=False)
    (loose,) = relax_batch([start], free, chgnet)
    (kept,) = relax_batch([start], RelaxationSettings(max_steps=150, fmax_ev_per_angstrom=0.02), chgnet)
    assert kept.space_group_before == kept.space_group_after == 221
    assert kept.converged
    assert symmetry(kept.cell, 1e-6).number == 221
    assert loose.space_group_after != 221
    assert loose.energy_ev_per_atom < kept.energy_ev_per_atom


# --- what fails


def bad_ones() -> dict[str, tuple[Cell, str]]:
    salt = rock_salt(11, 17, 5.6)
    holes = salt.fractional.copy()
    holes[1, 2] = np.nan
    return {
        "overlapping": (Cell(salt.lattice, salt.elements, salt.fractional * 0.1), TOO_CLOSE_UNRELAXED),
        "flat": (Cell(salt.lattice * [1, 1, 0], salt.elements, salt.fractional), NO_CRYSTAL),
        "nothing": (cell_of(5 * CUBE, [], []), NO_CRYSTAL),
        "not a number": (Cell(salt.lattice, salt.elements, holes), NO_CRYSTAL),
        "infinite": (Cell(np.full((3, 3), np.inf), salt.elements, salt.fractional), NO_CRYSTAL),
        "polonium": (rock_salt(84, 8, 5.6), UNKNOWN_ELEMENT),
        "americium": (rock_salt(95, 8, 5.0), UNKNOWN_ELEMENT),
        "no element": (rock_salt(0, 8, 5.0), UNKNOWN_ELEMENT),
        "large": (cell_of(30 * CUBE, [11] * 500, np.indices((8, 8, 8)).reshape(3, -1).T[:500] / 8), TOO_MANY_ATOMS),
        "isolated": (rock_salt(11, 17, 30.0), ISOLATED_ATOM),
        "vast": (rock_salt(11, 17, 1e6), ISOLATED_ATOM),
    }


def test_bad_cells_do_not_touch_good_ones(chgnet):
    bad = bad_ones()
    cells = [*CRYSTALS[:2], *(cell for cell, _ in bad.values()), *CRYSTALS[2:]]
    found = relax_batch(cells, QUICK, chgnet)
    assert dict(zip(bad, found[2 : 2 + len(bad)], strict=True)) == {name: reason for name, (_, reason) in bad.items()}
    assert all(isinstance(one, Relaxed) for one in (*found[:2], *found[2 + len(bad) :]))


def test_a_cell_that_the_potential_fails_on_is_found(chgnet, monkeypatch):
    evaluate, culprit = chgnet.evaluate, 55

    def failing(cells):
        if any(culprit in cell.elements for cell in cells):
            raise FloatingPointError("division by zero")
        return evaluate(cells)

    monkeypatch.setattr(chgnet, "evaluate", failing)
    with pytest.warns(UserWarning, match=r"I Cs.*division by zero"):
        found = relax_batch(CRYSTALS, QUICK, chgnet)
    assert [place for place, one in enumerate(found) if one == FAILED] == [3]
    assert sum(isinstance(one, Relaxed) for one in found) == 4


def test_what_goes_wrong_on_the_way_has_its_reason(chgnet, monkeypatch):
    too_large = cell_of(5.2 * (1 - CUBE) / np.sqrt(2), [29], [[0, 0, 0]])
    tight = RelaxationSettings(max_volume_ratio=1.05)
    assert relax_batch([too_large], tight, chgnet) == [VOLUME_CHANGED]
    distances = RelaxationSettings(min_distance_factor=0.92)
    far_apart = cell_of(4.1 * (1 - CUBE) / np.sqrt(2) * 0.7, [6], [[0, 0, 0]])
    assert relax_batch([far_apart], distances, chgnet)[0] in (TOO_CLOSE_RELAXED, VOLUME_CHANGED)
    evaluate = chgnet.evaluate

    def without_numbers(cells):
        return [potentials.Evaluation(np.nan, one.forces_N3, one.stress_33) for one in evaluate(cells)]

    monkeypatch.setattr(chgnet, "evaluate", without_numbers)
    assert relax_batch(CRYSTALS[:1], QUICK, chgnet) == [NOT_FINITE]


# --- many cells


def test_results_do_not_depend_on_the_processes(tmp_path, monkeypatch):
    monkeypatch.setitem(relax._CHUNK, "cpu", (6, 64))
    salts = [rock_salt(cation, anion, 5.6) for cation in (3, 11, 19) for anion in (8, 9, 17, 35)]
    cells = [*CRYSTALS, *salts, bad_ones()["flat"][0], CRYSTALS[0]]
    one = relax_all(cells, QUICK, cache_dir=None, processes=1, device="cpu", what="one")
    two = relax_all(cells[::-1], QUICK, cache_dir=tmp_path, processes=2, device="cpu", what="two")[::-1]
    assert all(map(same, one, two))
    kept = relax_all(cells, QUICK, cache_dir=tmp_path, processes=1, device="cpu", what="kept")
    assert all(map(same, one, kept))


def counted(monkeypatch) -> list[int]:
    """How many cells each evaluation had, from now on."""
    sizes, evaluate = [], potentials.CalculatorPotential.evaluate

    def counting(self, cells):
        sizes.append(len(cells))
        return evaluate(self, cells)

    monkeypatch.setattr(potentials.CalculatorPotential, "evaluate", counting)
    return sizes


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setitem(relax._CHUNK, "cpu", (4, 64))


def metals(n: int) -> list[Cell]:
    return [cell_of(a * (1 - CUBE), [29], [[0, 0, 0]]) for a in np.linspace(1.75, 1.95, n)]


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, capsys, small_chunks):
    run = {"cache_dir": tmp_path / "cache", "processes": 1, "device": "cpu", "what": "copper"}
    cells = metals(10)  # three chunks
    evaluations = counted(monkeypatch)
    first = relax_all(cells, TWO_STEPS, **run)
    n_first = len(evaluations)
    assert n_first > 20
    again = relax_all(cells, TWO_STEPS, **run)
    assert len(evaluations) == n_first
    assert all(map(same, first, again))
    relax_all([*metals(3), *cells[5:], cells[0]], TWO_STEPS, **run)  # another campaign: one cell is new
    n_new = len(evaluations) - n_first
    assert 0 < n_new <= 3
    relax_all(cells, RelaxationSettings(**vars(TWO_STEPS) | {"max_steps": 3}), **run)
    assert len(evaluations) > n_first + n_new + 20  # other settings, other results
    assert capsys.readouterr().err.count("relaxed again") == 0


def test_a_killed_run_loses_a_chunk_at_most(tmp_path, monkeypatch, small_chunks):
    run = {"cache_dir": tmp_path, "processes": 1, "device": "cpu", "what": "copper"}
    cells, batch, done = metals(10), relax.relax_batch, []

    def killed(chunk, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(chunk))
        return batch(chunk, *rest)

    monkeypatch.setattr(relax, "relax_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        relax_all(cells, TWO_STEPS, **run)
    monkeypatch.setattr(relax, "relax_batch", lambda chunk, *rest: done.append(len(chunk)) or batch(chunk, *rest))
    resumed = relax_all(cells, TWO_STEPS, **run)
    assert done == [4, 4, 2]
    assert all(map(same, resumed, relax_all(cells, TWO_STEPS, **run | {"cache_dir": None})))


def test_a_damaged_file_is_reported_and_done_again(tmp_path, monkeypatch, capsys, small_chunks):
    run = {"cache_dir": tmp_path, "processes": 1, "device": "cpu", "what": "copper"}
    first = relax_all(metals(10), TWO_STEPS, **run)
    path = sorted(tmp_path.glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    evaluations = counted(monkeypatch)
    assert all(map(same, first, relax_all(metals(10), TWO_STEPS, **run)))
    assert evaluations
    said = capsys.readouterr().err
    assert str(path) in said
    assert "relaxed again" in said
    relax_all(metals(10), TWO_STEPS, **run)
    assert "relaxed again" not in capsys.readouterr().err  # it was written anew


def test_chunks_are_made_of_the_input_alone():
    cells = {f"{n:02}-{name}": cell_of(9 * CUBE, [11] * n, np.zeros((n, 3))) for n in (1, 5, 30) for name in "abcd"}
    chunks = chunks_of(cells, 4, 64)
    assert chunks == chunks_of(dict(reversed(cells.items())), 4, 64)
    assert chunks[0] == ["30-a", "30-b"]
    assert sorted(key for chunk in chunks for key in chunk) == sorted(cells)
    assert all(len(chunk) <= 4 for chunk in chunks)
    assert chunks_of({"one": cells["30-a"]}, 4, 8) == [["one"]]


# --- other potentials


def test_a_calculator_of_ase_by_its_name():
    settings = RelaxationSettings(**LENNARD_JONES, fmax_ev_per_angstrom=0.001)
    argon = shaken(cell_of(2.4 * (1 - CUBE), [18], [[0, 0, 0]]), 0, 0.01)
    (found,) = relax_all([argon], settings, cache_dir=None, processes=1, device="cpu", what="argon")
    assert found.converged
    # Nearest neighbours of the face-centred crystal stand at 1.09 sigma (Kittel), a little more with a cutoff.
    assert (np.sqrt(2) * found.cell.volume) ** (1 / 3) == pytest.approx(1.09 * 3.0, abs=0.02)
    assert potentials.potential_name(settings).startswith("ase 3.")
    assert potentials.potential_name(settings).endswith("LennardJones epsilon=0.1 rc=9.0 sigma=3.0")


def test_an_element_that_a_calculator_lacks_fails_alone():
    cells = [*metals(1), rock_salt(11, 17, 5.6)]
    with pytest.warns(UserWarning, match="Na Cl.*cannot be relaxed"):
        found = relax_all(cells, COPPER_GOLD, cache_dir=None, processes=1, device="cpu", what="two")
    assert isinstance(found[0], Relaxed)
    assert found[1] == FAILED


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"potential": "sevenm.calculator:SevenNet"},
            "'sevenm.calculator:SevenNet' cannot be imported .*sevenm.*install",
        ),
        ({"potential": "ase.calculators.lj:Nothing"}, "cannot be imported .*Nothing"),
        ({"potential": "none"}, "'none' relaxes nothing"),
        ({"potential": "ase.calculators.lj:LennardJones", "arguments": {"rc": "wide"}}, "arguments {'rc': 'wide'}"),
        ({"potential": "ase.calculators.gromacs:Gromacs", "arguments": {"x": object}}, "mend relaxation.arguments"),
    ],
)
def test_a_potential_that_is_not_there_is_named(settings, says):
    with pytest.raises(ValueError, match=says):
        relax_all(metals(1), RelaxationSettings(**settings), cache_dir=None, processes=1, device="cpu", what="none")


def test_a_potential_without_stress_is_refused():
    settings = RelaxationSettings(
        potential="ase.calculators.counterions:AtomicCounterIon",
        arguments={"charge": 1, "epsilon": 0.1, "sigma": 2.0},
    )
    with pytest.raises(ValueError, match="must give energy, forces and stress"):
        relax_all(metals(1), settings, cache_dir=None, processes=1, device="cpu", what="none")


@pytest.mark.parametrize("settings", [{"potential": "mace"}, {"potential": "a:"}, {"arguments": {"model": "x"}}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match=r"relaxation\.(potential|arguments)"):
        RelaxationSettings(**settings)


def test_the_digest_sees_the_bytes_of_weights(tmp_path):
    weights = tmp_path / "weights.pth"
    settings = RelaxationSettings(potential="a.b:C", arguments={"model": str(weights)})
    digests = []
    for content in ("one", "two"):
        weights.write_text(content)
        digests.append(settings.digest("a 1.0 C"))
    assert len({*digests, settings.digest("a 1.1 C"), RelaxationSettings().digest("a 1.0 C")}) == 4
