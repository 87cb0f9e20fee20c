from pipeline.door import door

with door(snakemake) as provenance:
    from pipeline.database.stage import read_rows
    from pipeline.provenance import list_digest

    read_rows(
        **snakemake.params.settings,
        rows_path=snakemake.output.rows,
        rejects_path=snakemake.output.rejects,
        provenance=provenance | {"source_files": list_digest(path for path, *_ in snakemake.params.files)},
    )
