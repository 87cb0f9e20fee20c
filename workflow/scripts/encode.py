from pipeline.door import door

with door(snakemake, "entries", "vocabulary") as provenance:
    from pipeline.encoding import encode

    encode(
        generator=snakemake.params.generator,
        settings=snakemake.params.settings,
        entries_path=snakemake.input.entries,
        vocabulary_path=snakemake.input.vocabulary,
        tensors_path=snakemake.output.tensors,
        seed=snakemake.params.seed,
        provenance=provenance,
    )
