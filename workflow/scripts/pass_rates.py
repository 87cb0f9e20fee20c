from pipeline.door import door

with door(snakemake):
    from pipeline.filtering.baseline import write_pass_rates

    write_pass_rates(
        entries_path=snakemake.input.entries,
        split_path=snakemake.input.split,
        samples_paths=snakemake.input.samples,
        output_path=snakemake.output.pass_rates,
        seed=snakemake.params.seed,
    )
