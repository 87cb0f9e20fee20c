from pipeline.door import door

with door(snakemake):
    from pipeline.database.fetching import fetch

    sources = {source["name"]: source for source in snakemake.config["database"]["sources"]}
    fetch(
        source=sources[snakemake.wildcards.source],
        partial_path=snakemake.params.partial,
        snapshot_path=snakemake.output.snapshot,
        about_path=snakemake.output.about,
    )
