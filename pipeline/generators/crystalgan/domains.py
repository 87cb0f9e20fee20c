"""What CrystalGAN learns from: binaries A-X and B-X of the user's database as 4 x 18 x 3 tensors.

Nouira, Sokolovska and Crivello 2018 (hal-01902821): 35 structures of each of two metals with hydrogen, a lattice
block and one block of coordinates for each element, a placeholder for the metal that is absent. Where the database has
fewer, a metal's places are filled with the structures that the same anion forms with other metals, most alike first.
"""

import math
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline.cells import CELL_COLUMNS, LATTICE, Cell, from_table
from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.generators import Tensors
from pipeline.generators.crystalgan.crystals import SLOTS
from pipeline.structures.assign import same_crystal
from pipeline.structures.ranking import COVALENT, ELECTRONEGATIVITY, coordinates
from pipeline.structures.relaxation_schema import CHGNET, NONE, RelaxationSettings
from pipeline.structures.symmetry import primitive
from pipeline.structures.volume import predicted_volume, too_close

if TYPE_CHECKING:
    from pipeline.structures.potentials import Potential

LEAST = 2  # structures of a domain; from a single one there is no distribution to learn
SETTINGS = ("reduced", "given")
_SYMPREC_ANGSTROM = 0.01  # of the primitive cell
_NIGGLI_TOLERANCE = 1e-5  # spglib's own default
_OVERLAP = 0.7  # of the sum of covalent radii, as in the structures stage
# Differences that count as one unit of unlikeness of two metals: our assumption.
_ELECTRONEGATIVITY_UNIT = 0.5  # Pauling
_SIZE_UNIT = 0.25  # natural logarithm of the covalent radius
# After 40 steps 8 of 9 lent Pd-H structures were within 3 % of their volume after 100, after 20 steps 6 of them.
_RELAXATION = RelaxationSettings(
    max_steps=40, fmax_ev_per_angstrom=0.1, keep_symmetry=False, max_atoms=2 * SLOTS, min_distance_factor=_OVERLAP
)

COLUMNS = {
    "tensor": "rows 0 to 2 of block 0: lattice vectors; blocks 1 to 3: Cartesian coordinates of X, A, B; angstrom",
    "occupied": "1 where a slot of X, A, B holds an atom",
    "elements": "atomic numbers of X, A, B",
    "domain": "0: binary of A, 1: binary of B",
}


@dataclass(frozen=True)
class Encoding:
    """Which binaries are learnt, and how they are written.

    Args:
        pairs: Metals A and B of each pair, symbols; the model makes ternaries A-B-X.
        anion: X, symbol.
        n_per_domain: Structures of A-X and of B-X each; 35 in the paper.
        setting: ``reduced``: the primitive cell, Niggli-reduced, its first vector along x and its second in the xy
            plane; with one metal atom the most compact of its doubled cells, so that two metals can share it.
            ``given``: the cell of the database.
        relaxation: ``chgnet`` relaxes the structures that other metals lent; ``none`` scales their volume alone.

    Raises:
        ValueError: A value that cannot be meant.
    """

    pairs: tuple[tuple[str, str], ...]
    anion: str = "H"
    n_per_domain: int = 35
    setting: str = "reduced"
    relaxation: str = "none"

    def __post_init__(self):
        place = "encoding.settings"
        pairs = self.pairs if isinstance(self.pairs, list | tuple) else [self.pairs]
        if not pairs:
            raise ValueError(f"{place}.pairs: there is none; write pairs of metals like [[Pd, Ni]]")
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError(f"{place}.pairs: {pair!r} is no pair of metals; write pairs like [[Pd, Ni]]")
        object.__setattr__(self, "pairs", tuple(tuple(pair) for pair in pairs))
        for key, symbol in [("anion", self.anion), *(("pairs", symbol) for pair in self.pairs for symbol in pair)]:
            if not isinstance(symbol, str) or symbol not in ATOMIC_NUMBERS:
                raise ValueError(f"{place}.{key}: {symbol!r} is no element symbol; write it like 'Pd', quotes included")
        for number, (a, b) in enumerate(self.pairs):
            if a == b or self.anion in (a, b):
                raise ValueError(f"{place}.pairs: [{a}, {b}] with anion {self.anion}; name three different elements")
            if {a, b} in map(set, self.pairs[:number]):
                raise ValueError(f"{place}.pairs: [{a}, {b}] stands there twice; leave one out")
        if not isinstance(self.n_per_domain, int) or self.n_per_domain < LEAST:
            raise ValueError(f"{place}.n_per_domain: {self.n_per_domain!r}; write a whole number of at least {LEAST}")
        for key, choice in (("setting", SETTINGS), ("relaxation", (NONE, CHGNET))):
            if getattr(self, key) not in choice:
                raise ValueError(f"{place}.{key}: {getattr(self, key)!r}; choose from {list(choice)}")


@dataclass(frozen=True)
class _Binary:
    """A structure of the anion and one metal (atomic number), of the entry ``id``."""

    id: str
    metal: int
    cell: Cell


@dataclass(frozen=True)
class _Library:
    """The database's binaries of the anion and a metal, best first, and how many were left out for their size."""

    binaries: list[_Binary]
    n_large: int


def encode(entries: pa.Table, vocabulary: list[int], encoding: Encoding, seed: int) -> Tensors:
    """The domains of all pairs.

    Args:
        entries: Rows of the ENTRIES table: id, elements, counts, energy above the hull and cell.
        vocabulary: Not used: another metal's structures stand in for elements that the database lacks.
        encoding: See :class:`Encoding`.
        seed: Not used: the choice of structures is no draw.

    Returns:
        One row for each structure of each domain of each pair, columns as in ``COLUMNS``. A structure that another
        metal lent goes by the id of that metal's entry, and is held out with it.

    Raises:
        ValueError: The database has no structures, one holds values that are not finite, or a domain has fewer than
            ``LEAST``.
    """
    library = _library(entries, encoding)
    potential = None
    if encoding.relaxation == CHGNET:
        from pipeline.structures.potentials import load

        potential = load(_RELAXATION, "cpu")
    metals = dict.fromkeys(symbol for pair in encoding.pairs for symbol in pair)
    domains = {symbol: _domain(symbol, library, encoding, potential) for symbol in metals}
    x = ATOMIC_NUMBERS[encoding.anion]
    rows, ids = defaultdict(list), []
    for symbols in encoding.pairs:
        elements = np.array([x, *(ATOMIC_NUMBERS[symbol] for symbol in symbols)], dtype=np.uint8)
        for domain, symbol in enumerate(symbols):
            for binary in domains[symbol]:
                cell = reduced(binary.cell, x) if encoding.setting == "reduced" else binary.cell
                tensor, occupied = tensor_of(cell, elements)
                row = (tensor, occupied, elements, np.array([domain], np.uint8))
                ids.append(binary.id)
                for name, value in zip(COLUMNS, row, strict=True):
                    rows[name].append(value)
    return Tensors(ids, {name: (np.array(rows[name]), meaning) for name, meaning in COLUMNS.items()})


def tensor_of(cell: Cell, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cell as a tensor.

    Args:
        cell: At most ``SLOTS`` atoms each of X, A and B, and no others.
        elements: uint8 array of shape (3,): atomic numbers of X, A and B.

    Returns:
        Lattice and Cartesian coordinates, float64 of shape (4, 18, 3), angstrom, 0 where there is no atom; which slots
        hold one, uint8 of shape (3, 18). Atoms of an element stand in the order of the cell.
    """
    tensor, occupied = np.zeros((4, SLOTS, 3)), np.zeros((3, SLOTS), dtype=np.uint8)
    tensor[0, :3] = cell.lattice
    for block, element in enumerate(elements):
        atoms = cell.fractional[cell.elements == element] @ cell.lattice
        tensor[block + 1, : len(atoms)] = atoms
        occupied[block, : len(atoms)] = 1
    return tensor, occupied


def reduced(cell: Cell, anion: int) -> Cell:
    """A primitive cell in the form of the setting ``reduced``: over the same lattice however turned or chosen.

    Args:
        cell: A primitive cell.
        anion: Atomic number; a cell with a single other atom is doubled if its anions still fit ``SLOTS``.
    """
    n_anions = int((cell.elements == anion).sum())
    if len(cell.elements) - n_anions > 1 or 2 * n_anions > SLOTS:
        return _niggli(cell)
    return min((_niggli(_doubled(cell, place, leaning)) for place, leaning in _DOUBLINGS), key=_compactness)


def _doubled(cell: Cell, place: int, leaning: tuple[int, int, int]) -> Cell:
    """The same crystal with one lattice vector doubled and added to those that lean on it."""
    vectors = np.eye(3)
    vectors[:, place] = leaning
    vectors[place, place] = 2
    fractional = np.concatenate([cell.fractional, cell.fractional + np.eye(3)[place]]) @ np.linalg.inv(vectors)
    return Cell(vectors @ cell.lattice, np.tile(cell.elements, 2), fractional)


# The seven lattices that hold every second point of a lattice (Hermite normal forms of determinant 2).
_DOUBLINGS = [(0, (0, y, z)) for y in (0, 1) for z in (0, 1)] + [(1, (0, 0, z)) for z in (0, 1)] + [(2, (0, 0, 0))]


def _compactness(cell: Cell) -> tuple[float, ...]:
    """Sum of the squared lattice vectors, then all their products: the order in which doubled cells are preferred."""
    products = np.round(cell.lattice @ cell.lattice.T, 3)
    return (round(float(np.trace(products)), 3), *products[np.triu_indices(3)])


def _niggli(cell: Cell) -> Cell:
    """The same crystal over its Niggli cell: a right-handed, lower-triangular lattice, sites in order of position."""
    import spglib

    lattice = spglib.niggli_reduce(cell.lattice, _NIGGLI_TOLERANCE)
    lattice = lattice * np.sign(np.linalg.det(lattice))
    fractional = cell.fractional @ cell.lattice @ np.linalg.inv(lattice)
    fractional -= np.floor(fractional + 1e-6)
    upper = np.linalg.qr(lattice.T, mode="r")
    order = np.lexsort(np.rint(fractional.T[::-1] * 1e5))
    return Cell(upper.T * np.sign(np.diag(upper)) + 0.0, cell.elements[order], fractional[order])


def _library(entries: pa.Table, encoding: Encoding) -> _Library:
    with_cell = entries.filter(entries[LATTICE.name].is_valid())
    if len(with_cell) == 0:
        raise ValueError(
            f"none of the {len(entries)} entries has a structure, which this generator learns from; add "
            "structures to database.sources (kind: structures, or `structures:` of a table)"
        )
    compositions = Compositions.from_table(with_cell)
    x = ATOMIC_NUMBERS[encoding.anion]
    holds_x = np.bincount(compositions.rows[compositions.elements == x], minlength=len(compositions)) > 0
    binary = with_cell.filter(pa.array((compositions.n_elements == 2) & holds_x))
    wanted = {ATOMIC_NUMBERS[symbol] for pair in encoding.pairs for symbol in pair}
    energies = binary["energy_above_hull_ev_per_atom"].to_pylist()
    found, n_large = [], 0
    for id_, energy, cell in zip(binary["id"].to_pylist(), energies, from_table(binary), strict=True):
        metal = int(cell.elements[cell.elements != x][0])
        if not (metal in wanted or _is_metal(metal)):
            continue
        if not cell.is_finite:
            raise ValueError(
                f"entry '{id_}': its lattice or coordinates hold values that are not finite; mend its "
                f"columns {[field.name for field in CELL_COLUMNS]} or leave the entry out"
            )
        if encoding.setting == "reduced":
            cell = primitive(cell, _SYMPREC_ANGSTROM) or cell
        if np.unique(cell.elements, return_counts=True)[1].max() > SLOTS:
            n_large += 1
        else:
            found.append((math.inf if energy is None else energy, len(cell.elements), _Binary(id_, metal, cell)))
    found.sort(key=lambda item: (item[0], item[1], item[2].id))
    return _Library([item[2] for item in found], n_large)


def _is_metal(z: int) -> bool:
    from pymatgen.core import Element

    element = Element.from_Z(z)
    return element.is_metal or element.is_metalloid


def _domain(symbol: str, library: _Library, encoding: Encoding, potential: "Potential | None") -> list[_Binary]:
    """The structures of one metal: its own, best first, then those that other metals lend, most alike first."""
    metal, x, name = ATOMIC_NUMBERS[symbol], ATOMIC_NUMBERS[encoding.anion], f"{symbol}-{encoding.anion}"
    taken = [binary for binary in library.binaries if binary.metal == metal][: encoding.n_per_domain]
    n_own = len(taken)
    lenders, dropped = Counter(), Counter()
    with tqdm(desc=name, initial=n_own, total=encoding.n_per_domain, unit=" structures", mininterval=1) as bar:
        for binary in _most_alike(metal, library.binaries):
            if len(taken) == encoding.n_per_domain:
                break
            cell = _lent(binary, metal, x, [other.cell for other in taken], potential)
            if isinstance(cell, str):
                dropped[cell] += 1
            else:
                taken.append(_Binary(binary.id, metal, cell))
                lenders[SYMBOLS[binary.metal - 1]] += 1
                bar.update()
    lost = "".join(f", {n} {reason}" for reason, n in dropped.items())
    if len(taken) < LEAST:
        raise ValueError(
            f"domain {name} needs at least {LEAST} structures and has {len(taken)}: of the database's "
            f"binaries of {encoding.anion} with a metal and a structure, {len(library.binaries)} fit in {SLOTS} atoms "
            f"of an element, {library.n_large} do not{lost}; add such structures to database.sources"
        )
    from_whom = ", ".join(f"{lender} {n}" for lender, n in lenders.items())
    text = f"{name}: {n_own} of the database, {lenders.total()} of other metals" + (f" ({from_whom})" * bool(lenders))
    if len(taken) < encoding.n_per_domain:
        text += f", {len(taken)} in all and not {encoding.n_per_domain}"
    print(f"{text}; left out: {library.n_large} too large{lost}", file=sys.stderr)
    return taken


def _most_alike(metal: int, binaries: list[_Binary]) -> list[_Binary]:
    """The binaries of other metals, those of the metal most alike first."""
    others = sorted({binary.metal for binary in binaries} - {metal})
    if not others:
        return []
    apart = coordinates(others, None) - coordinates([metal], None)
    unlike = np.hypot(apart[:, ELECTRONEGATIVITY] / _ELECTRONEGATIVITY_UNIT, apart[:, COVALENT] / _SIZE_UNIT)
    rank = {others[place]: order for order, place in enumerate(np.argsort(np.round(unlike, 9), kind="stable"))}
    return sorted((binary for binary in binaries if binary.metal != metal), key=lambda binary: rank[binary.metal])


def _lent(binary: _Binary, metal: int, x: int, taken: list[Cell], potential: "Potential | None") -> Cell | str:
    """The structure with another metal in its place, at the volume of that metal; or why there is none."""
    lender = binary.cell
    cell = Cell(lender.lattice, np.where(lender.elements == x, x, metal).astype(np.uint8), lender.fractional)
    cell = cell.scaled(predicted_volume(cell, lender)[0])
    rivals = [other for other in taken if _same_ratio(cell, other, x)]
    if too_close(cell, _OVERLAP):
        return "overlapping"
    if any(same_crystal(cell, rival) for rival in rivals):
        return "alike"
    if potential is None:
        return cell
    from pipeline.structures.relax_batch import relax_batch

    (relaxed,) = relax_batch([cell], _RELAXATION, potential)
    if isinstance(relaxed, str):
        return relaxed
    return "alike" if any(same_crystal(relaxed.cell, rival) for rival in rivals) else relaxed.cell


def _same_ratio(one: Cell, other: Cell, x: int) -> bool:
    """Whether two binaries have the same reduced formula."""
    return (one.elements == x).sum() * len(other.elements) == (other.elements == x).sum() * len(one.elements)
