from pipeline.door import door

with door(snakemake, "generator") as provenance:
    from pipeline.sampling import collect

    collect(
        drawn_paths=snakemake.input.drawn,
        samples_path=snakemake.output.samples,
        partition=int(snakemake.wildcards.part),
        provenance=provenance,
    )
