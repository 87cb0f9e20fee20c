"""Space groups as CIFs give them: a list of operations or a name; and the orbit of a site under one.

Legend of suffixes: K operations of the group, M sites.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import gemmi
import numpy as np

# The largest point group (48) by the four points of a face-centred cell is 192; larger cells of it are twice that.
MAX_OPERATIONS = 384
# An image this near to its site is the site: a coordinate of three digits moves it by 0.05 angstrom in a 30 angstrom
# cell, and no two nuclei come as close (the nearest, H-H, stay 0.74 angstrom apart).
MERGE_ANGSTROM = 0.1
DENOMINATOR = 24  # of gemmi's translations: all that space groups have in their usual cells


@dataclass(frozen=True, eq=False)
class Group:
    """A space group by its K operations modulo lattice translations, the identity first.

    Attributes:
        rotations: float64 array of shape (K, 3, 3), acting on columns of fractional coordinates.
        translations: float64 array of shape (K, 3).
        products: int array of shape (K, K); ``products[i, j]`` is the operation that j and then i make.
    """

    rotations: np.ndarray
    translations: np.ndarray
    products: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    def misfit(self, lattice: np.ndarray) -> float:
        """By how much the operations change lengths and angles of the lattice, 0 if they are its symmetry.

        Returns:
            Largest change of a scalar product of two lattice vectors, over the product of their lengths.
        """
        gram = lattice @ lattice.T
        lengths = np.sqrt(np.diag(gram))
        turned = np.einsum("kji,jl,klm->kim", self.rotations, gram, self.rotations)
        return float((np.abs(turned - gram) / np.outer(lengths, lengths)).max())

    def orbits(self, lattice: np.ndarray, sites: np.ndarray) -> list[np.ndarray]:
        """All images of each site in one cell, the site itself first.

        A site within ``MERGE_ANGSTROM`` of images of its own lies on a symmetry element, and is moved onto it: to the
        mean of these images.

        Args:
            lattice: (3, 3), angstrom, one lattice vector a row.
            sites: (M, 3), fractional.

        Raises:
            ValueError: A site is so near to a symmetry element that its images neither join nor stay apart.
        """
        shifts = np.einsum("kij,mj->mki", self.rotations, sites) + self.translations - sites[:, None]
        shifts -= np.rint(shifts)  # within this distance, the nearest image in every cell that has a volume
        joined = np.linalg.norm(shifts @ lattice, axis=2) < MERGE_ANGSTROM
        orbits = []
        for place, (site, shift, same, special) in enumerate(
            zip(sites, shifts, joined, joined.sum(axis=1) > 1, strict=True)
        ):
            firsts = slice(None)
            if special:
                stabilizer = np.flatnonzero(same)
                if not same[self.products[np.ix_(stabilizer, stabilizer)]].all():
                    raise ValueError(f"site {place + 1} lies about {MERGE_ANGSTROM} angstrom from a symmetry element")
                site = site + shift[stabilizer].mean(axis=0)
                # g and g' make the same image if g' = g h with h of the stabilizer: one of each such coset is kept.
                firsts = self.products[:, stabilizer].min(axis=1) == np.arange(len(self))
            orbits.append((self.rotations[firsts] @ site + self.translations[firsts]) % 1.0)
        return orbits


@lru_cache(maxsize=1024)
def group(operations: tuple[str, ...]) -> Group:
    """The group of operations written like ``-x+1/2, y, z``.

    Raises:
        ValueError: One cannot be read, they are too many, or products of them are missing.
    """
    if len(operations) > MAX_OPERATIONS:
        raise ValueError(f"{len(operations)} symmetry operations, at most {MAX_OPERATIONS} make a space group")
    rows = []
    for text in operations:
        try:
            operation = gemmi.Op(text)
        except RuntimeError as error:
            raise ValueError(f"symmetry operation '{text}': {error}") from None
        row = [value for line in operation.rot for value in line] + operation.tran
        if any(abs(value) % DENOMINATOR or abs(value) > 2 * DENOMINATOR for value in row[:9]) or _rounded_off(text):
            raise ValueError(f"symmetry operation '{text}' is none of a space group")
        rows.append([value // DENOMINATOR for value in row[:9]] + [value % DENOMINATOR for value in row[9:]])
    identity = [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    rows = list({tuple(row): None for row in [identity, *rows]})
    integers = np.array(rows)
    rotations, translations = integers[:, :9].reshape(-1, 3, 3), integers[:, 9:]
    n = len(rows)
    turned = np.einsum("aij,bjk->abik", rotations, rotations).reshape(n, n, 9)
    moved = (np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]) % DENOMINATOR
    numbers = {row: place for place, row in enumerate(rows)}
    found = np.concatenate([turned, moved], axis=2).reshape(n * n, 12).tolist()
    products = np.array([numbers.get(tuple(row), -1) for row in found]).reshape(n, n)
    if (products < 0).any():
        raise ValueError(f"the {len(operations)} symmetry operations are no group: products of them are missing")
    return Group(rotations.astype(float), translations / DENOMINATOR, products)


def _rounded_off(text: str) -> bool:
    """Whether a decimal number in an operation is no multiple of 1/24, which gemmi makes of each."""
    for number in re.findall(r"\d*\.\d*", text):
        parts = float(number) * DENOMINATOR if number != "." else float("nan")
        if not abs(parts - round(parts)) < 0.1 or (round(parts) == 0 and parts != 0):
            return True
    return False


@lru_cache(maxsize=1024)
def settings(name: str, number: int) -> tuple[tuple[str, ...], ...]:
    """The operations of every setting that a Hermann-Mauguin name, or the number alone, may mean.

    A name without origin choice means both origins, one without axes the hexagonal and the rhombohedral cell; a number
    means the standard setting of the International Tables. ICSD's marks are known: ``S`` and ``Z`` for the first
    and the second origin, ``H`` and ``R`` for the axes.

    Raises:
        ValueError: There is no such group, or the name is not of that number.
    """
    tidy = re.sub(r"\((\d)\)", r"\1", name).strip()
    marked = re.fullmatch(r"(.+?)\s*(?::\s*([12HR])|([SZHR]|HR|RH|HS|RS|HZ))", tidy, re.IGNORECASE)
    base, mark = (marked[1], (marked[2] or marked[3]).upper()) if marked else (tidy, "")
    if base:  # P2_1/c, or P_21/c
        found = gemmi.find_spacegroup_by_name(base.replace("_", " ")) or gemmi.find_spacegroup_by_name(
            base.replace("_", "")
        )
    else:
        found = gemmi.find_spacegroup_by_number(number)
    if found is None:
        raise ValueError(f"space group '{name}' is unknown" if base else f"no space group has the number {number}")
    if number and found.number != number:
        raise ValueError(f"space group '{name}' has the number {found.number}, the file says {number}")
    if not base:
        found = gemmi.get_spacegroup_reference_setting(number)
    choices = [other for other in gemmi.spacegroup_table() if (other.number, other.hm) == (found.number, found.hm)]
    extension = {"S": "1", "Z": "2"}.get(mark, mark[:1])
    chosen = [other for other in choices if other.ext == extension] or choices
    return tuple(tuple(operation.triplet() for operation in other.operations()) for other in chosen)
