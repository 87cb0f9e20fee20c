MODELS = config["screening"]["models"]


def model_folder(target):
    """Folder of the property model that screens for `target`: the config's, or the one that this campaign trains."""
    chosen = MODELS[target]
    return f"{RESULTS}/screening/models/{target}" if chosen == "train" else Path(workflow.basedir) / chosen


def model_files(target):
    """The files of that folder that say what it predicts, so that other weights are seen as another input."""
    folder = model_folder(target)
    if MODELS[target] == "train":
        return [f"{folder}/model.json"]
    weights = sorted(str(path) for path in folder.glob("*") if path.suffix in (".safetensors", ".gz"))
    return [f"{folder}/model.json", *weights]


rule train_property_model:
    input:
        entries=rules.ingest.output.entries,
        split=rules.encode.output.split,
    output:
        model=f"{RESULTS}/screening/models/{{target}}/model.json",
    params:
        code=source_digest("pipeline.screening.training", "pipeline.screening.elemnet", "pipeline.screening.band_gap"),
        settings=config["screening"]["training"],
        seed=SEED,
    log:
        f"{LOGS}/train_property_model-{{target}}.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=growing(8000),
        runtime=growing(config["training"]["runtime"]),
    script:
        "../scripts/train_property_model.py"


rule predict:
    input:
        filtered=rules.filter.output.filtered,
        entries=rules.ingest.output.entries,
        formation_energy=model_files("formation_energy_ev_per_atom"),
        band_gap=model_files("band_gap_ev"),
    output:
        predicted=f"{RESULTS}/screening/predicted/part-{{part}}.parquet",
    params:
        code=source_digest("pipeline.screening.predict", "pipeline.screening.elemnet", "pipeline.screening.band_gap"),
        formation_energy=str(model_folder("formation_energy_ev_per_atom")),
        band_gap=str(model_folder("band_gap_ev")),
    log:
        f"{LOGS}/predict-{{part}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    script:
        "../scripts/predict.py"


rule select_candidates:
    input:
        predicted=expand(rules.predict.output.predicted, part=PARTS),
        entries=rules.ingest.output.entries,
    output:
        screened=expand(f"{RESULTS}/screening/screened/part-{{part}}.parquet", part=PARTS),
        selected=f"{RESULTS}/screening/selected.parquet",
    params:
        code=source_digest("pipeline.screening.select"),
        settings=config["screening"]["select"],
    log:
        f"{LOGS}/select_candidates.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    script:
        "../scripts/select_candidates.py"
