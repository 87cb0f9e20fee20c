"""The database stage without Snakemake: sources become entries in a folder."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.database.cleaning import Cleaning
from pipeline.database.stage import clean_rows, read_rows


def ingest(
    folder: Path, sources: Sequence[dict], cleaning: dict, share: float = 1.0, snapshots: dict[str, tuple] | None = None
) -> None:
    """Read and clean; ``snapshots`` holds (records, about) of what was fetched, by name of its source."""
    snapshots = snapshots or {}
    rows, rejects = (
        [folder / source["name"] / f"{table}.parquet" for source in sources] for table in ("rows", "rejects")
    )
    for source, rows_path, rejects_path in zip(sources, rows, rejects, strict=True):
        read_rows(
            source=source,
            max_rejected_share=share,
            rows_path=rows_path,
            rejects_path=rejects_path,
            snapshot_path=snapshots.get(source["name"], (None,))[0],
            provenance={"seed": 1},
        )
    clean_rows(
        rows_paths=rows,
        rejects_paths=rejects,
        about_paths={name: about for name, (_, about) in snapshots.items()},
        sources=sources,
        cleaning=Cleaning(**cleaning),
        entries_path=folder / "entries.parquet",
        cleaning_path=folder / "cleaning.json",
        sources_path=folder / "sources.json",
        summary_path=folder / "summary.txt",
        provenance={"seed": 1},
    )
