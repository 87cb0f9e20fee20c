"""Relaxation with CHGNet; what is done is kept in files and never done again."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.cells import Cell
from pipeline.structures import relax
from pipeline.structures.relax import Relaxed
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.volume import too_close

# On the way atoms may come nearer than they may stand at the end.
SETTINGS = RelaxationSettings(
    max_steps=100, fmax_ev_per_angstrom=0.1, keep_symmetry=False, max_atoms=200, min_distance_factor=0.3
)
NEAREST = 0.7  # of the sum of two covalent radii, in a relaxed cell
TOO_CLOSE = "too_close"


def relax_all(cells: Sequence[Cell], path: Path, processes: int, what: str) -> list[Relaxed | str]:
    """Relax cells with CHGNet, free of symmetry.

    Args:
        cells: Any cells; what CHGNet cannot take gets a reason.
        path: Folder of earlier results, and of those that come, so that a killed run goes on.
        processes: How many to use, each on one thread.
        what: Said beside the progress bar.

    Returns:
        Of each cell, in order, the relaxed one or the reason why there is none.
    """
    folder = path.with_suffix("")
    found = relax.relax_all(cells, SETTINGS, cache_dir=folder, processes=processes, device="cpu", what=what)
    return [TOO_CLOSE if isinstance(one, Relaxed) and too_close(one.cell, NEAREST) else one for one in found]
