from pipeline.door import door

with door(snakemake, "entries") as provenance:
    from pipeline.encoding import hold_out

    hold_out(
        entries_path=snakemake.input.entries,
        cleaning_path=snakemake.input.cleaning,
        vocabulary_path=snakemake.output.vocabulary,
        split_path=snakemake.output.split,
        **snakemake.params.settings,
        seed=snakemake.params.seed,
        provenance=provenance,
    )
