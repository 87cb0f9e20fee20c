"""Entry point of relaxation: cells as they were built in, cells at rest with their energies or reasons out."""

import os
from pathlib import Path

from pipeline import tables
from pipeline.cells import Cell, from_table, plain_rows, with_cells
from pipeline.structures.potentials import load, potential_name
from pipeline.structures.relax import relax_all
from pipeline.structures.relax_batch import FAILED, Relaxed
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.schema import BUILT, RELAXATION, RELAXED


def relax_structures(
    *,
    built_path: str | os.PathLike,
    output_path: str | os.PathLike,
    settings: RelaxationSettings,
    cache_dir: str | os.PathLike,
    processes: int,
    device: str = "auto",
    provenance: dict | None = None,
) -> None:
    """Relax atoms and cell of each structure.

    Args:
        built_path: See ``BUILT``; rows with a reason in ``rejected_by`` pass through.
        output_path: Parquet file, see ``RELAXED``: the same rows, each with its relaxed cell or a reason.
        settings: How to relax; the potential ``none`` leaves every cell as it is.
        cache_dir: Relaxations that are done, those of other campaigns too.
        processes: How many to use; the results do not depend on it.
        device: ``auto``, ``cpu`` or ``cuda``.
        provenance: Stored in the file.

    Raises:
        ValueError: The potential cannot be loaded, or fails for every structure.
    """
    built = tables.read(built_path, BUILT)
    rows, cells = plain_rows(built), from_table(built)
    waiting = [place for place, row in enumerate(rows) if row["rejected_by"] is None]
    outcomes = {}
    if settings.potential != "none":
        found = relax_all(
            [cells[place] for place in waiting],
            settings,
            cache_dir=Path(cache_dir),
            processes=processes,
            device=device,
            what="relaxation",
        )
        if found and all(outcome == FAILED for outcome in found):
            raise ValueError(failure(cells[waiting[0]], settings, len(found)))
        outcomes = dict(zip(waiting, found, strict=True))
    for place, row in enumerate(rows):
        outcome = outcomes.get(place)
        row |= dict.fromkeys(field.name for field in RELAXATION)
        if isinstance(outcome, Relaxed):
            cells[place] = outcome.cell
            row |= _told(outcome, potential_name(settings))
        elif cells[place] is not None:
            row["relaxed"] = False
            row["rejected_by"] = row["rejected_by"] or outcome
    tables.write(output_path, RELAXED, with_cells(RELAXED.schema.names, rows, cells), provenance)


def failure(cell: Cell, settings: RelaxationSettings, n: int) -> str:
    """What to say when the potential failed for each of ``n`` cells; the first is tried again for the reason."""
    try:
        load(settings, "cpu").evaluate([cell])
        reason = "one of them alone does not"
    except Exception as error:
        reason = repr(error)
    return (
        f"structures.relax.potential: '{settings.potential}' failed for all {n} structures ({reason}); mend its "
        "arguments or its environment, or choose another"
    )


def _told(outcome: Relaxed, potential: str) -> dict:
    return {
        "relaxed": True,
        "potential": potential,
        "energy_ev_per_atom": outcome.energy_ev_per_atom,
        "relaxation_volume_ratio": outcome.volume_ratio,
        "relaxation_steps": outcome.n_steps,
        "maximum_force_ev_per_angstrom": outcome.maximum_force_ev_per_angstrom,
        "maximum_stress_gpa": outcome.maximum_stress_gpa,
        "converged": outcome.converged,
        "space_group_number_before": outcome.space_group_before,
    }
