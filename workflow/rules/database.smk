SOURCE = with_paths(config["database"]["source"])


rule read_rows:
    output:
        rows=f"{RESULTS}/database/rows.parquet",
        rejects=f"{RESULTS}/database/rejects.parquet",
    log:
        f"{LOGS}/read_rows.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(8000, 60),
    params:
        code=source_digest("pipeline.database.stage"),
        settings={"source": SOURCE, "max_rejected_share": config["database"]["max_rejected_share"]},
        files=stamp(SOURCE),
    script:
        "../scripts/read_rows.py"


rule clean_rows:
    input:
        rows=rules.read_rows.output.rows,
        rejects=rules.read_rows.output.rejects,
    output:
        entries=f"{RESULTS}/database/entries.parquet",
        cleaning=f"{RESULTS}/database/cleaning.json",
    log:
        f"{LOGS}/clean_rows.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(8000, 60),
    params:
        code=source_digest("pipeline.database.stage"),
        settings=config["database"]["cleaning"],
    script:
        "../scripts/clean_rows.py"
