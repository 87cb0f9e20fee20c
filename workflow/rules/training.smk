# With `auto` the job will find as many processes as it asks the cluster for GPUs.
GPUS = int(re.split("[:=]", config["cluster"]["gpu"])[-1]) if config["cluster"]["gpu"] else 1
TRAINING_PROCESSES = GPUS if config["training"]["processes"] == "auto" else config["training"]["processes"]
# The plugin starts a job that names `mpi` without srun; the stage calls srun, once a node.
NODES = config["training"]["nodes"]
TRAINING_NODES = {"nodes": NODES, "tasks": NODES, "mpi": "srun"} if NODES > 1 else {}


rule train:
    input:
        tensors=rules.encode.output.tensors,
        vocabulary=rules.hold_out.output.vocabulary,
        split=rules.hold_out.output.split,
    output:
        generator=f"{RESULTS}/training/generator.safetensors",
        history=f"{RESULTS}/training/history.parquet",
        epoch_samples=f"{RESULTS}/training/epoch_samples.parquet",
    log:
        f"{LOGS}/training.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["training"]["threads"] * TRAINING_PROCESSES
    resources:
        **needs(8000, config["training"]["runtime"], gpu=True),
        **TRAINING_NODES,
    params:
        code=source_digest("pipeline.training.stage", GENERATOR),
        generator=config["generator"],
        settings={key: config["training"][key] for key in ("preset", "settings")},
        seed=SEED,
        device=config["training"]["device"],
        checkpoints=f"{RESULTS}/training/checkpoints/generator",
    script:
        "../scripts/training.py"


rule autoencode:
    input:
        entries=rules.clean_rows.output.entries,
        vocabulary=rules.hold_out.output.vocabulary,
        split=rules.hold_out.output.split,
    output:
        reconstruction=f"{RESULTS}/training/reconstruction.json",
    log:
        f"{LOGS}/autoencoder.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["training"]["threads"]
    resources:
        **needs(8000, config["training"]["runtime"], gpu=True),
    params:
        code=source_digest("pipeline.training.autoencoder"),
        settings=config["training"]["autoencoder"],
        seed=SEED,
        device=config["training"]["device"],
        checkpoints=f"{RESULTS}/training/checkpoints/autoencoder",
    script:
        "../scripts/autoencoder.py"
