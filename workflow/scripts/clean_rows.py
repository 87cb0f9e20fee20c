from pipeline.door import door

with door(snakemake, "rows") as provenance:
    from pipeline.database.cleaning import Cleaning
    from pipeline.database.stage import clean_rows

    clean_rows(
        rows_path=snakemake.input.rows,
        rejects_path=snakemake.input.rejects,
        cleaning=Cleaning(**snakemake.params.settings),
        entries_path=snakemake.output.entries,
        cleaning_path=snakemake.output.cleaning,
        provenance=provenance,
    )
