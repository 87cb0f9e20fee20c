"""CIFs as databases and people write them: each block a :class:`Cell`, or the reason why it is none.

What a file leaves open is settled only where its own formula settles it; a file that contradicts itself is refused.
"""

import re
from collections import Counter

import gemmi
import numpy as np
from gemmi import cif

from pipeline.cells import Cell
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES, SYMBOLS
from pipeline.database.crystals import MAX_SITES, cell_fault, lattice_from_parameters
from pipeline.database.symmetry_operations import Group, group, settings

FULL_OCCUPANCY = 1e-3  # an occupancy of 0.999 and more, as refined or rounded, is 1
MAX_MISFIT = 0.02  # of lattice and space group; hexagonal axes taken for rhombohedral ones differ by 0.5
FORMULA_TOLERANCE = 0.01  # rounding in a formula of an ordered crystal
HEAVIEST = 103  # no crystal has more: Og1 and Nh2 are labels of oxygen and nitrogen

CELL = [f"_cell_{kind}" for kind in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")]
POSITION = ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]
OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
NAME = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full")
NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
UNITS = "_cell_formula_units_z"
MAGNETIC = "_space_group_symop_magn_operation_xyz"
WANTED = {
    *(*CELL, *POSITION, *OPERATIONS, *HALL, *NAME, *NUMBER, MAGNETIC),
    *("_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy", "_atom_site_calc_flag"),
    *("_atom_site_attached_hydrogens", "_chemical_formula_sum", UNITS, "_cell_modulation_dimension"),
}

Values = dict[str, list[str]]


def read_cif(text: str) -> list[tuple[str, Cell | str]]:
    """(name, cell or reason) of each block that has atom sites, in the file's order.

    Args:
        text: The file; line ends of any kind.

    Raises:
        ValueError: It is no CIF, or has no such block.
    """
    found, names = [], Counter()
    try:
        document = cif.read_string(_plain(text), 0)
    except ValueError as error:
        raise ValueError(re.sub(r"^string:(\d+):\S*", r"line \1:", str(error))) from None
    for block in document:
        name = block.name.strip()
        try:
            values = _values(block)
            if not any(values.get(POSITION[0], [])):
                continue
            content = _cell(values)
        except (ValueError, ArithmeticError) as error:
            content = str(error)
        names[name] += 1
        found.append((f"{name}#{names[name]}" if names[name] > 1 else name, content))
    if not found:
        raise ValueError("no block has atom sites with fractional coordinates")
    return found


def _plain(text: str) -> str:
    """The text in what gemmi reads: ASCII, without marks of the page, and CIF 2's values as CIF 1.1 writes them."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    version_2 = text.startswith("#\\#CIF_2")
    if not text.isascii():
        text = text.replace("\xa0", " ").encode("ascii", "backslashreplace").decode()
    text = re.sub(r"[\0-\x08\x0b-\x1f\x7f]", " ", text)
    if version_2:
        text = re.sub(r"'''(.*?)'''|\"\"\"(.*?)\"\"\"", r"\n;\1\2\n;\n", text, flags=re.DOTALL)
        for _ in range(5):  # lists and tables, one level of nesting a time; none holds what is read here
            text = re.sub(r"(?<=[\s:\[{])(\[[^\[\]{}]*\]|\{[^\[\]{}]*\})(?=[\s\]}])", "?", text)
    return text


def _values(block) -> Values:
    """What the block says under the tags that are read, unquoted; "" for ``?`` and ``.``."""
    values: Values = {}
    for item in block:
        tags = [item.pair[0]] if item.pair else item.loop.tags if item.loop else []
        for column, tag in enumerate(tags):
            tag = tag.lower().replace(".", "_")
            if tag in WANTED:
                raw = item.loop.values[column :: len(tags)] if item.loop else item.pair[1:]
                texts = [text if text == "." and tag in POSITION else _text(text) for text in raw]
                if values.setdefault(tag, texts) != texts:
                    raise ValueError(f"{tag} stands twice")
    return values


def _text(raw: str) -> str:
    return "" if raw in ("'?'", "'.'") else cif.as_string(raw).strip()


def _cell(values: Values) -> Cell:
    if _first(values, "_cell_modulation_dimension") not in ("", "0"):
        raise ValueError("modulated structure")
    lattice = lattice_from_parameters(*_lengths_and_angles(values))
    elements, sites = _sites(values)
    complete, choices = _operations(values)
    cells, reasons = [], []
    for operations in choices:
        try:
            cells.append(_expanded(values, complete, group(operations), lattice, elements, sites))
        except ValueError as error:
            reasons.append(str(error))
    if len(cells) > 1:
        raise ValueError(
            f"space group '{_first(values, *NAME, *NUMBER)}' may mean {len(choices)} settings, and more than one of "
            "them fits; the symmetry operations are missing"
        )
    if not cells:
        raise ValueError("; ".join(dict.fromkeys(reasons)))
    return cells[0]


def _expanded(values: Values, complete: bool, of: Group, lattice: np.ndarray, elements: list[int], sites) -> Cell:
    misfit = of.misfit(lattice)
    if not misfit < MAX_MISFIT:
        raise ValueError(
            f"the cell does not have its space group's symmetry: lengths or angles are off by {misfit:.0%}"
        )
    orbits = of.orbits(lattice, sites)
    numbers = np.repeat(elements, [len(orbit) for orbit in orbits])
    cell = Cell(lattice, numbers.astype(np.uint8), np.concatenate(orbits))
    fault = cell_fault(cell) or _formula_fault(values, complete, Counter(numbers.tolist()))
    if fault:
        raise ValueError(fault)
    return cell


def _lengths_and_angles(values: Values) -> list[float]:
    numbers = [_number(_first(values, tag), tag) for tag in CELL]
    if min(numbers) <= 0 or max(numbers[3:]) >= 180:
        raise ValueError(f"cell lengths and angles {numbers} are none of a crystal")
    alpha, beta, gamma = numbers[3:]
    if alpha + beta + gamma >= 360 or 2 * max(numbers[3:]) >= alpha + beta + gamma:
        raise ValueError(f"cell angles {numbers[3:]} do not close a cell")
    return numbers


def _sites(values: Values) -> tuple[list[int], np.ndarray]:
    """Atomic numbers and fractional coordinates of the sites that are full; none that is not is passed over."""
    columns = [values.get(tag, []) for tag in POSITION]
    n = len(columns[0])
    if not n or [len(column) for column in columns] != [n, n, n]:
        raise ValueError("no sites with fractional coordinates")
    if n > MAX_SITES:
        raise ValueError(f"{n} sites, at most {MAX_SITES} can be read")
    labels, symbols, occupancies, flags, hydrogens = (
        values.get(f"_atom_site_{name}", [""] * n)
        for name in ("label", "type_symbol", "occupancy", "calc_flag", "attached_hydrogens")
    )
    if {len(column) for column in (labels, symbols, occupancies, flags, hydrogens)} != {n}:
        raise ValueError("columns of _atom_site_ stand in tables of different lengths")
    formula = _formula(values)
    parts: dict[tuple, dict[int, float]] = {}  # occupancies by place and element, since species may share a place
    for place, *position in zip(range(n), *columns, strict=True):
        name = labels[place] or symbols[place] or f"number {place + 1}"
        occupancy = _number(occupancies[place] or "1", f"occupancy of site {name}")
        if flags[place].lower() == "dum" or occupancy == 0:
            continue  # a mark in the drawing, no atom
        if formula:  # ICSD writes 0. without its 0; should the dot mean that nobody knows, the formula will not fit
            position = ["0" if text == "." else text for text in position]
        if not {"", "."}.isdisjoint(position):
            raise ValueError(f"site {name} has no position")
        if hydrogens[place] not in ("", "0"):
            raise ValueError(f"hydrogen without positions at site {name}")
        z = _symbol(symbols[place]) if symbols[place] else _labelled(labels[place], formula)
        key = tuple(_number(text, f"position of site {name}") for text in position)
        species = parts.setdefault(key, {})
        species[z] = species.get(z, 0.0) + occupancy
    for key, species in parts.items():
        total = sum(species.values())
        if len(species) > 1 or total < 1 - FULL_OCCUPANCY:
            shares = ", ".join(f"{SYMBOLS[z - 1]} {share:.4g}" for z, share in species.items())
            raise ValueError(f"partial occupancies: {shares} at {' '.join(f'{value:.4g}' for value in key)}")
        if total > 1 + FULL_OCCUPANCY:
            raise ValueError(f"a site stands twice or is more than full: {total:.4g} at {key}")
    if not parts:
        raise ValueError("no sites with atoms")
    return [z for species in parts.values() for z in species], np.array(list(parts), dtype=float)


def _symbol(text: str) -> int:
    """Atomic number of a type symbol: ``Fe``, ``Fe3+``, ``FE+3``, ``D``."""
    charge = r"\d*\.?\d*[+-]|[+-]\d*\.?\d*"
    match = re.fullmatch(rf"([A-Za-z][a-z]?)(?:\d*|{charge})|([A-Z]{{2}})(?:{charge})?", text)  # FE3+, but not PO4
    symbol = (match[1] or match[2]).capitalize() if match else ""
    z = ATOMIC_NUMBERS.get(ISOTOPES.get(symbol, symbol), 0)
    if not 0 < z <= HEAVIEST:
        raise ValueError(f"'{text}' is no element")
    return z


def _labelled(label: str, formula: dict[int, float]) -> int:
    """Atomic number of a label that must serve as the symbol: ``Fe1``, ``CaM2``, ``Ow``; the formula decides FE1."""
    letters = re.match(r"[A-Za-z]{0,2}", label)[0]
    if re.match(r"[Ww][Aa][Tt]|[A-Z]?[a-z]{3}", label):
        raise ValueError(f"label '{label}' names no atom")
    choices = [ATOMIC_NUMBERS.get(ISOTOPES.get(symbol, symbol), 0) for symbol in (letters.capitalize(), letters[:1])]
    choices = [z for z in dict.fromkeys(choices) if 0 < z <= HEAVIEST]
    choices = [z for z in choices if z in formula] or choices
    if not choices:
        raise ValueError(f"label '{label}' names no element, and no _atom_site_type_symbol does")
    if len(choices) > 1 and letters.isupper():
        raise ValueError(f"label '{label}' may be {SYMBOLS[choices[0] - 1]} or {SYMBOLS[choices[1] - 1]}")
    return choices[0]


def _operations(values: Values) -> tuple[bool, tuple[tuple[str, ...], ...]]:
    """Whether all operations are listed, and the operations of each setting that may be meant."""
    name, number = _first(values, *NAME), _first(values, *NUMBER)
    number = int(number) if re.fullmatch(r"\d{1,3}", number) else 0
    listed = next((tuple(filter(None, values[tag])) for tag in OPERATIONS if any(values.get(tag, []))), ())
    if listed:
        orders = _orders(name, number)
        complete = not orders or len(group(listed)) in orders
        if not complete and len(listed) == 1 and not (_formula(values) and _first(values, UNITS)):
            raise ValueError(f"the only symmetry operation is {listed[0]}, the space group is {name or number}")
        return complete, (listed,)
    hall = _first(values, *HALL)
    if hall:
        try:
            return False, (tuple(operation.triplet() for operation in gemmi.symops_from_hall(hall)),)
        except (RuntimeError, ValueError):
            if not (name or number):
                raise ValueError(f"space group '{hall}' is unknown") from None
    if name or number:
        return False, settings(name, number)
    if MAGNETIC in values:
        raise ValueError("only magnetic symmetry operations are given")
    return False, (("x,y,z",),)


def _orders(name: str, number: int) -> set[int]:
    """How many operations the named space group may have in its cell; empty if it is unknown."""
    try:
        return {len(operations) for operations in settings(name, number)} if name or number else set()
    except ValueError:
        return set()


def _formula_fault(values: Values, complete: bool, counts: Counter) -> str | None:
    """Where the sites contradict the file's formula: atoms without position, symmetry that is missing."""
    formula = _formula(values)
    if not formula:
        return None
    ratios = [counts[z] / amount for z, amount in formula.items()]
    ours = " ".join(f"{SYMBOLS[z - 1]}{count}" for z, count in counts.items())
    text = values["_chemical_formula_sum"][0]
    if counts.keys() - formula.keys() or max(ratios) > (1 + FORMULA_TOLERANCE) * min(ratios):
        return f"the sites make {ours}, the formula is {text}"
    units = _first(values, UNITS)
    if complete or not units.isdigit() or int(units) == 0:
        return None
    # Some programs, pymatgen among them, write the whole cell as the formula, and Z beside it.
    whole = all(amount % int(units) == 0 for amount in formula.values())
    if not any(abs(ratios[0] / times - 1) < FORMULA_TOLERANCE for times in {int(units), 1 if whole else int(units)}):
        return f"the sites make {ours}, the cell holds {units} of {text}; symmetry operations are missing"
    return None


def _formula(values: Values) -> dict[int, float]:
    """{atomic number: amount} of the sum formula; empty where there is none that can be read."""
    text = _first(values, "_chemical_formula_sum")
    amounts: dict[int, float] = {}
    if not re.fullmatch(r"(?:[A-Z][a-z]?\d*(?:\.\d+)?\s*)*", text):
        return {}
    for symbol, count in re.findall(r"([A-Z][a-z]?)([\d.]*)", text):
        z, amount = ATOMIC_NUMBERS.get(ISOTOPES.get(symbol, symbol)), float(count or 1)
        if z is None or amount == 0:
            return {}
        amounts[z] = amounts.get(z, 0.0) + amount
    return amounts


def _first(values: Values, *tags: str) -> str:
    """The first of the tags that has a value, "" if none has."""
    return next((values[tag][0] for tag in tags if tag in values and values[tag][0]), "")


def _number(text: str, what: str) -> float:
    """The value of a number that may carry its uncertainty: ``1.234(5)``."""
    value = cif.as_number(text)
    if value != value:
        raise ValueError(f"{what}: '{text}' is no number" if text else f"{what} is missing")
    return value
