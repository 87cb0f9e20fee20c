from pipeline.door import door

with door(snakemake, *snakemake.input.keys()) as provenance:
    from pipeline.database.stage import read_rows
    from pipeline.provenance import list_digest

    source = snakemake.params.settings["source"]
    read_rows(
        **snakemake.params.settings,
        rows_path=snakemake.output.rows,
        rejects_path=snakemake.output.rejects,
        snapshot_path=snakemake.input.get("snapshot", source.get("snapshot")),
        workers=snakemake.threads,
        provenance=provenance | {"source_files": list_digest(path for path, *_ in snakemake.params.files)},
    )
