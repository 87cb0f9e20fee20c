from pipeline.door import door

with door(snakemake, "entries", "split") as provenance:
    from pipeline.evaluation.stage import draw_baseline

    draw_baseline(
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        drawn_path=snakemake.output.drawn,
        baseline=snakemake.wildcards.baseline,
        **snakemake.params.settings,
        seed=snakemake.params.seed,
        provenance=provenance,
    )
