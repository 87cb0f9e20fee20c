"""The tables that the database stage writes."""

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS
from pipeline.composition import COUNTS, ELEMENTS
from pipeline.tables import Table, column

REFERRED = ("formation_energy_ev_per_atom", "energy_above_hull_ev_per_atom", "band_gap_ev")
"""Targets that are other numbers with other reference energies or another functional: sources never mix in one."""

TARGETS = {
    "formation_energy_ev_per_atom": "formation energy from the elements",
    "energy_above_hull_ev_per_atom": "energy above the convex hull of the source",
    "band_gap_ev": "band gap, 0 for a metal",
    "volume_a3_per_atom": "volume in cubic angstrom",
}

ENTRIES = Table(
    "entries",
    (
        column(
            "id",
            pa.string(),
            "the source's own id, or its file and row number; NAME:ID where there are several sources",
        ),
        column("source", pa.string(), "name of the source in the config"),
        column("formula", pa.string(), "reduced formula, elements by electronegativity"),
        ELEMENTS,
        COUNTS,
        *(column(name, pa.float64(), meaning, null="not in the source") for name, meaning in TARGETS.items()),
        *CELL_COLUMNS,
    ),
)

REJECTS = Table(
    "rejects",
    (
        column("source", pa.string(), "name of the source in the config"),
        column("file", pa.string(), "file that the row came from"),
        column("line", pa.int64(), "line in that file, from 1 (a table's header counts)", null="the file is one row"),
        column("id", pa.string(), "id as read", null="none read"),
        column("reason", pa.string(), "why the row could not be read"),
    ),
)
