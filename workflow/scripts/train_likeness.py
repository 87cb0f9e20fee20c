from pathlib import Path

from pipeline.door import door

with door(snakemake, "entries", "split") as provenance:
    from pipeline.filtering.schema import Rules
    from pipeline.screening.likeness import train_likeness

    settings = snakemake.params.settings
    train_likeness(
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        folder=Path(snakemake.output.model).parent,
        rules=Rules(**settings["rules"]),
        max_energy_above_hull_ev_per_atom=settings["max_energy_above_hull_ev_per_atom"],
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        provenance=provenance,
    )
