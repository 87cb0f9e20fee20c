from pipeline.door import door

with door(snakemake):
    from pipeline.evaluation.stage import evaluate_set

    drawn = snakemake.input.drawn
    evaluate_set(
        drawn_paths=[drawn] if isinstance(drawn, str) else drawn,
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        figures_path=snakemake.output.figures,
        is_baseline=snakemake.wildcards.set != "samples",
        seed=snakemake.params.seed,
    )
