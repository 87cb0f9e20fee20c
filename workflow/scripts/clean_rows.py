from pipeline.door import door

with door(snakemake, "rows") as provenance:
    from pipeline.database.cleaning import Cleaning
    from pipeline.database.stage import clean_rows

    clean_rows(
        rows_paths=snakemake.input.rows,
        rejects_paths=snakemake.input.rejects,
        about_paths=snakemake.params.about,
        sources=snakemake.params.settings["sources"],
        cleaning=Cleaning(**snakemake.params.settings["cleaning"]),
        entries_path=snakemake.output.entries,
        cleaning_path=snakemake.output.cleaning,
        sources_path=snakemake.output.sources,
        summary_path=snakemake.output.summary,
        provenance=provenance,
    )
