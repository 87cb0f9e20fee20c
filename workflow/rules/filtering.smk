rule filter:
    input:
        samples=rules.collect.output.samples,
        states=states_file(config["filtering"]["oxidation_states"]),
    output:
        filtered=f"{RESULTS}/filtering/filtered/part-{{part}}.parquet",
    params:
        code=source_digest("pipeline.filtering.stage"),
        settings=config["filtering"],
    log:
        f"{LOGS}/filter-{{part}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    script:
        "../scripts/filter.py"


rule pass_rates:
    input:
        samples=expand(rules.collect.output.samples, part=PARTS),
        entries=rules.ingest.output.entries,
        split=rules.encode.output.split,
    output:
        pass_rates=f"{RESULTS}/filtering/pass_rates.json",
    params:
        code=source_digest("pipeline.filtering.baseline"),
        seed=SEED,
    log:
        f"{LOGS}/pass_rates.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    script:
        "../scripts/pass_rates.py"


rule filter_history:
    input:
        epoch_samples=rules.train.output.epoch_samples,
        entries=rules.ingest.output.entries,
        split=rules.encode.output.split,
    output:
        history=f"{RESULTS}/filtering/history.parquet",
    params:
        code=source_digest("pipeline.filtering.history"),
    log:
        f"{LOGS}/filter_history.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    script:
        "../scripts/filter_history.py"
