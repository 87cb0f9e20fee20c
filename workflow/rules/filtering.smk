rule filter:
    input:
        samples=rules.collect.output.samples,
        states=states_file(config["filtering"]["oxidation_states"]),
    output:
        filtered=f"{RESULTS}/filtering/filtered/part-{{part}}.parquet",
    log:
        f"{LOGS}/filter-{{part}}.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(3000, 30),
    params:
        code=source_digest("pipeline.filtering.stage"),
        settings=config["filtering"],
    script:
        "../scripts/filter.py"


rule pass_rates:
    input:
        samples=expand(rules.collect.output.samples, part=SHARDS),
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
    output:
        pass_rates=f"{RESULTS}/filtering/pass_rates.json",
    log:
        f"{LOGS}/pass_rates.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=source_digest("pipeline.filtering.baseline"),
        seed=SEED,
    script:
        "../scripts/pass_rates.py"


rule filter_history:
    input:
        epoch_samples=rules.train.output.epoch_samples,
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
    output:
        history=f"{RESULTS}/filtering/history.parquet",
    log:
        f"{LOGS}/filter_history.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(3000, 30),
    params:
        code=source_digest("pipeline.filtering.history"),
    script:
        "../scripts/filter_history.py"
