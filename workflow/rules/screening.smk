rule train_property_model:
    input:
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
    output:
        model=f"{RESULTS}/screening/models/{{target}}/model.json",
    log:
        f"{LOGS}/train_property_model-{{target}}.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["training"]["threads"]
    resources:
        **needs(8000, config["training"]["runtime"]),
    params:
        code=source_digest(
            "pipeline.screening.training",
            "pipeline.screening.elemnet",
            "pipeline.screening.band_gap",
        ),
        settings=config["screening"]["training"],
        seed=SEED,
    script:
        "../scripts/train_property_model.py"


rule predict:
    input:
        filtered=rules.filter.output.filtered,
        entries=rules.clean_rows.output.entries,
        formation_energy=model_files("formation_energy_ev_per_atom"),
        band_gap=model_files("band_gap_ev"),
    output:
        predicted=f"{RESULTS}/screening/predicted/part-{{part}}.parquet",
    log:
        f"{LOGS}/predict-{{part}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 60),
    params:
        code=source_digest(
            "pipeline.screening.predict",
            "pipeline.screening.elemnet",
            "pipeline.screening.band_gap",
        ),
        formation_energy=lambda wildcards, input: str(Path(input.formation_energy[0]).parent),
        band_gap=lambda wildcards, input: str(Path(input.band_gap[0]).parent),
    script:
        "../scripts/predict.py"


rule select_candidates:
    input:
        predicted=expand(rules.predict.output.predicted, part=SHARDS),
        entries=rules.clean_rows.output.entries,
    output:
        screened=expand(f"{RESULTS}/screening/screened/part-{{part}}.parquet", part=SHARDS),
        selected=f"{RESULTS}/screening/selected.parquet",
    log:
        f"{LOGS}/select_candidates.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=source_digest("pipeline.screening.select"),
        settings=config["screening"]["select"],
    script:
        "../scripts/select_candidates.py"
