from pathlib import Path

from pipeline.door import door

with door(snakemake, "entries", "split", "table") as provenance:
    from pipeline.screening.training import Training, train_model

    columns = snakemake.params.settings["columns"]
    settings = {key: value for key, value in snakemake.params.settings.items() if key != "columns"}
    train_model(
        target=snakemake.wildcards.target,
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        folder=Path(snakemake.output.model).parent,
        settings=Training(**settings),
        table={"path": snakemake.input.table[0], **columns} if snakemake.input.table else None,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        provenance=provenance,
    )
