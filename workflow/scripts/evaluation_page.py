from pipeline.door import door

with door(snakemake):
    from pipeline.evaluation.stage import write_page

    write_page(
        figures_paths=dict(zip(snakemake.params.sets, snakemake.input.figures, strict=True)),
        page_path=snakemake.output.page,
        json_path=snakemake.output.figures,
        about=dict(snakemake.params.about),
    )
