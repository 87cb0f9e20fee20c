SOURCE = with_paths(config["database"]["source"])


rule ingest:
    output:
        entries=update(f"{RESULTS}/database/entries.parquet"),
        cleaning=update(f"{RESULTS}/database/cleaning.json"),
    log:
        f"{LOGS}/database.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        code=source_digest("pipeline.database.stage"),
        settings=config["database"] | {"source": SOURCE},
        rejects=f"{RESULTS}/database/rejects.parquet",
        source=stamp(SOURCE),
    script:
        "../scripts/database.py"
