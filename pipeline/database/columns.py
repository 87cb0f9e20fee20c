"""Which field of a record is what, as the config's ``columns`` say."""

from pipeline.composition import parse_formula
from pipeline.database.crystals import cell_of
from pipeline.database.records import Row, as_text, number
from pipeline.database.schema import TARGETS

# Factors to the unit in the column's name. 1 eV = 96.48533212 kJ/mol (CODATA 2018).
UNITS = {
    "formation_energy_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "energy_above_hull_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "band_gap_ev": {"eV": 1.0, "meV": 1e-3},
    "volume_a3_per_atom": {"A^3/atom": 1.0, "nm^3/atom": 1e3},
}

assert UNITS.keys() == TARGETS.keys()


class Columns:
    """Fills rows from records.

    Args:
        columns: The config's: ``id``, ``formula`` and ``structure`` name a field, targets ``{column: ..., unit: ...}``.
            A field is the record's own of that name or, after dots, one inside it.

    Raises:
        ValueError: An unknown unit.
    """

    def __init__(self, columns: dict) -> None:
        self.names = {name: spec["column"] if isinstance(spec, dict) else spec for name, spec in columns.items()}
        self.factors = unit_factors(columns)
        self.wanted = set(self.names.values())

    def fill(self, row: Row, record: dict) -> None:
        """Set a row's id, amounts, targets and cell, or its reason."""
        if "id" not in self.names:
            row.id = f"{row.file}:{row.line}"
        elif not row.name(as_text(self._field(record, "id")), f"column '{self.names['id']}'"):
            return
        try:
            if "formula" in self.names:
                row.amounts = parse_formula(as_text(self._field(record, "formula")))
            if "structure" in self.names:
                value = self._field(record, "structure")
                row.cell = None if value is None and row.amounts else cell_of(value)
            for name, factor in self.factors.items():
                value = number(self._field(record, name), self.names[name], factor)
                if value is not None:
                    row.targets[name] = value
        except ValueError as error:
            row.reason = str(error)

    def _field(self, record: dict, name: str) -> object:
        name = self.names[name]
        if name in record:
            return record[name]
        value: object = record
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def unit_factors(columns: dict) -> dict[str, float]:
    """{target: factor} of the config's ``columns``, ``{target: {column: ..., unit: ...}}``; other keys are left out.

    Raises:
        ValueError: An unknown unit.
    """
    factors = {}
    for name, spec in columns.items():
        if name in UNITS:
            if spec["unit"] not in UNITS[name]:
                raise ValueError(
                    f"database.sources: columns.{name}.unit: '{spec['unit']}' is unknown; one of {list(UNITS[name])}"
                )
            factors[name] = UNITS[name][spec["unit"]]
    return factors
