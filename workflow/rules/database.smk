rule ingest:
    output:
        entries=f"{RESULTS}/database/entries.parquet",
        cleaning=f"{RESULTS}/database/cleaning.json",
    params:
        code=source_digest("pipeline.database.stage"),
        settings=config["database"],
        rejects=f"{RESULTS}/database/rejects.parquet",
        source_files=source_stamp(config["database"]["source"]),
    log:
        f"{LOGS}/database.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    script:
        "../scripts/database.py"
