from pipeline.door import door

with door(snakemake) as provenance:
    from pipeline.database.cleaning import Cleaning
    from pipeline.database.stage import ingest

    settings = snakemake.params.settings
    ingest(
        source=settings["source"],
        cleaning=Cleaning(**settings["cleaning"]),
        max_rejected_share=settings["max_rejected_share"],
        entries_path=snakemake.output.entries,
        rejects_path=snakemake.params.rejects,
        cleaning_path=snakemake.output.cleaning,
        provenance=provenance,
    )
