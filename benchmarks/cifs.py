"""A folder of CIFs, in as many processes as there are cores, against ``pymatgen.core.Structure.from_str``.

The AFLOW prototypes, half of them with their symmetry operations and half in P1; files repeat.
"""

import os
import tempfile
from pathlib import Path

from benchmarks.compare import compare


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    from pipeline.database.archives import cells

    texts = []
    for place, prototype in enumerate(AFLOW_PROTOTYPE_LIBRARY):
        texts.append(str(CifWriter(prototype["snl"].structure, symprec=0.01 if place % 2 else None)))
    texts = texts * (1 if quick else 10)
    with tempfile.TemporaryDirectory() as folder:
        for place, text in enumerate(texts):
            Path(folder, f"{place:05d}.cif").write_text(text)
        list(cells(Path(folder), len(os.sched_getaffinity(0))))  # the processes run, as for all files after the first
        return compare(
            lambda: [len(row.cell.elements) for row in cells(Path(folder), len(os.sched_getaffinity(0)))],
            lambda: [len(Structure.from_str(path.read_text(), fmt="cif")) for path in sorted(Path(folder).iterdir())],
            len(texts),
            lambda ours, theirs: (sum(a != b for a, b in zip(ours, theirs, strict=True)), 0),
        )
