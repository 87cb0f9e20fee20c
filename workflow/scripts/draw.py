from pipeline.door import door

with door(snakemake, "generator") as provenance:
    from pipeline.sampling import draw

    draw(
        generator_path=snakemake.input.generator,
        vocabulary_path=snakemake.input.vocabulary,
        drawn_path=snakemake.output.drawn,
        counts_path=snakemake.output.counts,
        **snakemake.params.settings,
        job=int(snakemake.wildcards.job),
        jobs=snakemake.params.jobs,
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        provenance=provenance,
    )
