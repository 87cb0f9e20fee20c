rule encode:
    input:
        entries=rules.clean_rows.output.entries,
        cleaning=rules.clean_rows.output.cleaning,
    output:
        tensors=f"{RESULTS}/encoding/tensors.parquet",
        vocabulary=f"{RESULTS}/encoding/vocabulary.json",
        split=f"{RESULTS}/encoding/split.parquet",
    log:
        f"{LOGS}/encoding.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=source_digest("pipeline.encoding"),
        settings=config["encoding"],
        seed=SEED,
    script:
        "../scripts/encoding.py"
