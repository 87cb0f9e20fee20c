GENERATOR = f"pipeline.generators.{config['generator']}"


rule hold_out:
    input:
        entries=rules.clean_rows.output.entries,
        cleaning=rules.clean_rows.output.cleaning,
    output:
        vocabulary=f"{RESULTS}/encoding/vocabulary.json",
        split=f"{RESULTS}/encoding/split.parquet",
    log:
        f"{LOGS}/hold_out.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=source_digest("pipeline.encoding"),
        settings={key: config["encoding"][key] for key in ("holdout_share", "holdout_systems_share")},
        seed=SEED,
    script:
        "../scripts/hold_out.py"


rule encode:
    input:
        entries=rules.clean_rows.output.entries,
        vocabulary=rules.hold_out.output.vocabulary,
    output:
        tensors=f"{RESULTS}/encoding/tensors.parquet",
    log:
        f"{LOGS}/encode.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(6000, 120),
    params:
        code=source_digest("pipeline.encoding", GENERATOR),
        generator=config["generator"],
        settings=config["encoding"]["settings"],
        seed=SEED,
    script:
        "../scripts/encode.py"
