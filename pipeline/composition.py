"""Compositions as integers: the form in which formulas travel from the database to the last filter.

Legend of suffixes: N compositions, E elements of a vocabulary, M element-count pairs of all compositions together.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables import column

SYMBOLS = tuple(
    """H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb
    Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au
    Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts
    Og""".split()
)
ATOMIC_NUMBERS = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}

# Pauling electronegativity ascending, ties and elements without a value by symbol: the order in which formulas are
# written (pymatgen.core.Element.X, a test compares).
_FORMULA_ORDER = """Fr Cs K Rb Ba Ra Na Sr Li Ca Ac La Tb Yb Ce Pm Pr Nd Sm Eu Gd Dy Y Ho Er Tm Lu Pu Am Bk Cf Cm Es
    Fm Hf Lr Md No Th Mg Zr Np Sc U Pa Ta Ti Mn Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Cu Re Si Tc Ni Ag Sn Hg Po Ge Bi B
    Sb Te Mo As P At H Ir Os Pd Rn Ru Pt Rh Pb W Au C Se S Xe I Br Kr N Cl O F Ar Bh Cn Db Ds Fl He Hs Lv Mc Mt Ne Nh
    Og Rf Rg Sg Ts""".split()
RANK = np.zeros(len(SYMBOLS) + 1, dtype=np.int64)
RANK[[ATOMIC_NUMBERS[symbol] for symbol in _FORMULA_ORDER]] = np.arange(1, len(SYMBOLS) + 1)

ISOTOPES = {"D": "H", "T": "H"}
MAX_COUNT = 65535
MAX_FORMULA_LENGTH = 200

ELEMENTS = column("elements", pa.list_(pa.uint8()), "atomic numbers, in order of Pauling electronegativity")
COUNTS = column("counts", pa.list_(pa.uint16()), "atoms of each element of `elements`, no common divisor")


@dataclass(frozen=True)
class Compositions:
    """A batch of N compositions with M element-count pairs, in compressed sparse rows.

    Attributes:
        offsets: int64 array of shape (N + 1,); composition i owns pairs ``offsets[i]:offsets[i + 1]``.
        elements: uint8 array of shape (M,), atomic numbers, ordered within a row by Pauling electronegativity.
        counts: uint16 array of shape (M,), atoms, at least 1.
    """

    offsets: np.ndarray
    elements: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_pairs(cls, rows: np.ndarray, elements: np.ndarray, counts: np.ndarray, n: int) -> "Compositions":
        """Build from (row, atomic number, count) triples in any order, each element at most once in a row."""
        order = np.lexsort((RANK[elements], rows))
        offsets = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=n), out=offsets[1:])
        return cls(offsets, elements[order].astype(np.uint8), counts[order].astype(np.uint16))

    @classmethod
    def from_dense(cls, counts_NE: np.ndarray, vocabulary: Sequence[int]) -> "Compositions":
        """Build from a count matrix of shape (N, E); ``vocabulary`` holds the E atomic numbers of its columns."""
        rows, columns = np.nonzero(counts_NE)
        return cls.from_pairs(rows, np.asarray(vocabulary)[columns], counts_NE[rows, columns], len(counts_NE))

    @classmethod
    def from_formulas(cls, formulas: Iterable[str]) -> "Compositions":
        """Parse formulas; the first bad one raises the ``ValueError`` of :func:`parse_formula`."""
        return cls.from_dicts(parse_formula(formula) for formula in formulas)

    @classmethod
    def from_dicts(cls, amounts: Iterable[dict[int, int]]) -> "Compositions":
        """Build from one {atomic number: atoms} a composition."""
        rows, elements, counts, n = [], [], [], 0
        for n, amount in enumerate(amounts, start=1):
            rows.extend([n - 1] * len(amount))
            elements.extend(amount.keys())
            counts.extend(amount.values())
        return cls.from_pairs(*(np.array(values, dtype=np.int64) for values in (rows, elements, counts)), n)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Compositions":
        """Read the columns ``elements`` and ``counts`` of a table."""
        elements, counts = (table.column(name).combine_chunks() for name in ("elements", "counts"))
        offsets = elements.offsets.to_numpy().astype(np.int64)
        return cls(offsets - offsets[0], elements.flatten().to_numpy(), counts.flatten().to_numpy())

    def columns(self) -> dict[str, pa.Array]:
        """The columns ``elements`` and ``counts`` for a table."""
        offsets = pa.array(self.offsets, type=pa.int32())
        return {
            "elements": pa.ListArray.from_arrays(offsets, pa.array(self.elements, type=pa.uint8())),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(self.counts, type=pa.uint16())),
        }

    @property
    def n_elements(self) -> np.ndarray:
        """Number of different elements in each composition, int64 of shape (N,)."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """The composition that each pair belongs to, int64 of shape (M,)."""
        return np.repeat(np.arange(len(self)), self.n_elements)

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each composition, int64 of shape (N,)."""
        return np.bincount(self.rows, weights=self.counts, minlength=len(self)).astype(np.int64)

    def fractions(self) -> np.ndarray:
        """Share of the atoms of each pair in its composition, float64 of shape (M,)."""
        return self.counts / np.repeat(self.n_atoms, self.n_elements)

    def largest_count(self) -> np.ndarray:
        """Largest count of one element in each composition, int64 of shape (N,); 0 for an empty one."""
        largest = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(largest, self.rows, self.counts)
        return largest

    def take(self, index: np.ndarray) -> "Compositions":
        """The compositions at ``index`` (positions, or a boolean mask), in that order."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index
        sizes = self.n_elements[index]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        pairs = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], sizes)
        return Compositions(offsets, self.elements[pairs], self.counts[pairs])

    def reduced(self) -> "Compositions":
        """The same compositions divided by their greatest common divisors."""
        if len(self.counts) == 0:
            return self
        divisor = np.ones(len(self), dtype=self.counts.dtype)
        filled = self.n_elements > 0
        divisor[filled] = np.gcd.reduceat(self.counts, self.offsets[:-1][filled])
        return Compositions(self.offsets, self.elements, self.counts // np.repeat(divisor, self.n_elements))

    def chemical_systems(self) -> "Compositions":
        """The elements of each composition, one atom of each."""
        return Compositions(self.offsets, self.elements, np.ones_like(self.counts))

    def dense(self, vocabulary: Sequence[int]) -> np.ndarray:
        """Count matrix, uint16 of shape (N, E).

        Raises:
            ValueError: An element is outside the vocabulary.
        """
        place = np.full(len(SYMBOLS) + 1, -1)
        place[np.asarray(vocabulary)] = np.arange(len(vocabulary))
        columns = place[self.elements]
        if (columns < 0).any():
            missing = sorted({SYMBOLS[z - 1] for z in self.elements[columns < 0]})
            raise ValueError(f"elements {missing} are outside the vocabulary of {len(vocabulary)} elements")
        counts_NE = np.zeros((len(self), len(vocabulary)), dtype=np.uint16)
        counts_NE[self.rows, columns] = self.counts
        return counts_NE

    def formulas(self) -> pa.Array:
        """Formulas as text, elements by electronegativity and counts above 1 written out: ``Li3Fe2P3O12``."""
        tokens = pc.binary_join_element_wise(
            pa.array(SYMBOLS).take(pa.array(self.elements.astype(np.int32) - 1)),
            pc.if_else(
                pa.array(self.counts == 1), pa.scalar(""), pa.array(self.counts, type=pa.uint16()).cast(pa.string())
            ),
            "",
        )
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(self.offsets, type=pa.int32()), tokens), "")

    def hashes(self) -> np.ndarray:
        """A 64-bit hash of each composition, uint64 of shape (N,); equal compositions hash equal, whatever their order.

        Each pair is mixed by splitmix64's finaliser (Steele et al. 2014, doi:10.1145/2660193.2660195), the pairs of a
        row are added, and the sum is mixed again. Different compositions may collide: confirm before calling two equal.
        """
        from pipeline.matching import hash_rows

        return hash_rows(*self._arrays())

    def same_as(self, other: "Compositions") -> np.ndarray:
        """Row by row, whether two batches of equal length hold the same composition; bool of shape (N,)."""
        same = self.n_elements == other.n_elements
        mine, theirs = self.take(same), other.take(same)
        differs = (mine.elements != theirs.elements) | (mine.counts != theirs.counts)
        same[np.flatnonzero(same)[np.unique(mine.rows[differs])]] = False
        return same

    def unique(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct compositions.

        Returns:
            ``first`` and ``inverse``: the position of the first occurrence of each distinct composition, ascending, and
            for each of the N rows its place in ``first``; int64. Equal hashes are confirmed pair by pair.
        """
        from pipeline.matching import group

        first, inverse, _ = group(self.hashes(), *self._arrays())
        return first, inverse

    def contained_in(self, known: "Compositions") -> np.ndarray:
        """Which compositions are among ``known``, bool of shape (N,); equal hashes are confirmed pair by pair."""
        from pipeline.matching import group, look_up

        first, _, table = group(known.hashes(), *known._arrays())
        return look_up(self.hashes(), *self._arrays(), table, first, *known._arrays())

    def _arrays(self) -> list[np.ndarray]:
        """Offsets, elements and counts, read-only as Arrow's are, so that a kernel is compiled once."""
        views = [array.view() for array in (self.offsets, self.elements, self.counts)]
        for view in views:
            view.flags.writeable = False
        return views


def concatenate(batches: Sequence[Compositions]) -> Compositions:
    """One batch of all, in order."""
    sizes = np.concatenate([[0], *(batch.n_elements for batch in batches)])
    return Compositions(
        np.cumsum(sizes),
        np.concatenate([np.zeros(0, np.uint8), *(batch.elements for batch in batches)]),
        np.concatenate([np.zeros(0, np.uint16), *(batch.counts for batch in batches)]),
    )


_TOKEN = re.compile(r"([A-Z][a-z]?)([0-9.]*)|([(\[{])|([)\]}])([0-9.]*)|[ ]+")


def parse_formula(formula: str) -> dict[int, int]:
    """Read a chemical formula with integer amounts, brackets allowed: ``Li3Fe2(PO4)3``.

    Returns:
        {atomic number: atoms} in order of appearance. D and T count as hydrogen.

    Raises:
        ValueError: The text is no formula or longer than 200 characters, an element is unknown, an amount is
            fractional, zero or above 65,535.
    """
    if len(formula) > MAX_FORMULA_LENGTH:
        raise ValueError(f"formula {formula[:20]!r}...: {len(formula)} characters, {MAX_FORMULA_LENGTH} can be read")
    levels: list[dict[int, int]] = [{}]
    end = 0
    for match in _TOKEN.finditer(formula):
        if match.start() != end:
            break
        end = match.end()
        symbol, amount, opening, closing, factor = match.groups()
        if symbol:
            z = ATOMIC_NUMBERS.get(ISOTOPES.get(symbol, symbol))
            if z is None:
                raise ValueError(f"formula {formula!r}: '{symbol}' is no element")
            levels[-1][z] = levels[-1].get(z, 0) + _amount(amount, formula)
        elif opening:
            levels.append({})
        elif closing:
            if len(levels) == 1:
                raise ValueError(f"formula {formula!r}: '{closing}' closes nothing")
            inner, times = levels.pop(), _amount(factor, formula)
            for z, count in inner.items():
                levels[-1][z] = levels[-1].get(z, 0) + count * times
    if end != len(formula) or not formula.strip():
        raise ValueError(f"formula {formula!r}: cannot be read at {formula[end : end + 10]!r}")
    if len(levels) > 1:
        raise ValueError(f"formula {formula!r}: a bracket is not closed")
    largest = max(levels[0].values(), default=0)
    if not 0 < largest <= MAX_COUNT:
        raise ValueError(f"formula {formula!r}: {largest} atoms of one element, 1 to {MAX_COUNT} can be read")
    return levels[0]


def _amount(text: str, formula: str) -> int:
    if not text:
        return 1
    try:
        amount = float(text)
    except ValueError:
        raise ValueError(f"formula {formula!r}: '{text}' is no amount") from None
    if amount > MAX_COUNT:
        raise ValueError(f"formula {formula!r}: amount {text} is above {MAX_COUNT}")
    if amount != int(amount):
        raise ValueError(f"formula {formula!r}: amount {text} is fractional; multiply the formula to whole numbers")
    if amount < 1:
        raise ValueError(f"formula {formula!r}: amount {text} is not positive")
    return int(amount)
