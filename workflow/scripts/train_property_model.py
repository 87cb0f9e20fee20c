from pathlib import Path

from pipeline.door import door

with door(snakemake, "entries", "split") as provenance:
    from pipeline.screening.training import Training, train_model

    train_model(
        target=snakemake.wildcards.target,
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        folder=Path(snakemake.output.model).parent,
        settings=Training(**snakemake.params.settings),
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        provenance=provenance,
    )
