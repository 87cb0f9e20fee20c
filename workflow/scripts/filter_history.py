from pipeline.door import door

with door(snakemake, "epoch_samples", "split") as provenance:
    from pipeline.filtering.history import write_history

    write_history(
        epoch_samples_path=snakemake.input.epoch_samples,
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        output_path=snakemake.output.history,
        provenance=provenance,
    )
