rule train_property_model:
    input:
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
        table=lambda wildcards: labelled_table(wildcards.target),
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
        code=lambda wildcards: source_digest(
            "pipeline.screening.training",
            *learners_of(wildcards.target),
        ),
        settings=lambda wildcards: training_settings(wildcards.target),
        seed=SEED,
    script:
        "../scripts/train_property_model.py"


rule train_likeness:
    input:
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
        states=states_file(config["filtering"]["oxidation_states"]),
    output:
        model=f"{RESULTS}/screening/models/likeness/model.json",
    log:
        f"{LOGS}/train_likeness.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["training"]["threads"]
    resources:
        **needs(6000, 60),
    params:
        code=source_digest("pipeline.screening.likeness"),
        settings={
            "rules": {key: value for key, value in config["filtering"].items() if key != "reject"},
            **config["screening"]["likeness"],
        },
        seed=SEED,
    script:
        "../scripts/train_likeness.py"


rule predict:
    input:
        filtered=rules.filter.output.filtered,
        entries=rules.clean_rows.output.entries,
        models=all_model_files(),
        likeness=rules.train_likeness.output.model,
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
            *all_learners(),
        ),
        folders={target: str(model_folder(target)) for target in MODELS},
    script:
        "../scripts/predict.py"


rule select_candidates:
    input:
        predicted=expand(rules.predict.output.predicted, part=SHARDS),
        entries=rules.clean_rows.output.entries,
        decomposition_energy=model_files("decomposition_energy_ev_per_atom")[0],
        band_gap=model_files("band_gap_ev")[0],
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
