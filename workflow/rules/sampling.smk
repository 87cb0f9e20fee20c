rule draw:
    input:
        generator=rules.train.output.generator,
        vocabulary=rules.hold_out.output.vocabulary,
    output:
        drawn=f"{RESULTS}/sampling/drawn/job-{{job}}-of-{N_SHARDS:04d}.parquet",
        counts=f"{RESULTS}/sampling/drawn/job-{{job}}-of-{N_SHARDS:04d}.json",
    log:
        f"{LOGS}/draw-{{job}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(3000, 60),
    params:
        code=source_digest("pipeline.sampling", GENERATOR),
        generator=config["generator"],
        settings={
            "n_samples": config["sampling"]["n_samples"],
            "block_size": config["sampling"]["block_size"],
            "partitions": N_SHARDS,
        },
        seed=SEED,
        device=config["training"]["device"],
        jobs=N_SHARDS,
    script:
        "../scripts/draw.py"


rule collect:
    input:
        drawn=expand(rules.draw.output.drawn, job=SHARDS),
        generator=rules.train.output.generator,
    output:
        samples=f"{RESULTS}/sampling/samples/part-{{part}}.parquet",
    log:
        f"{LOGS}/collect-{{part}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(3000, 30),
    params:
        code=source_digest("pipeline.sampling"),
        settings={
            "n_samples": config["sampling"]["n_samples"],
            "block_size": config["sampling"]["block_size"],
            "partitions": N_SHARDS,
        },
        seed=SEED,
    script:
        "../scripts/collect.py"
