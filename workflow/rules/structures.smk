rule templates:
    input:
        entries=rules.clean_rows.output.entries,
    output:
        templates=f"{RESULTS}/structures/templates.parquet",
    log:
        f"{LOGS}/templates.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 240),
    params:
        code=source_digest("pipeline.structures.templates"),
        settings=config["structures"]["templates"],
    script:
        "../scripts/templates.py"


rule build_structures:
    input:
        selected=rules.select_candidates.output.selected,
        samples=expand(rules.collect.output.samples, part=SHARDS),
        templates=rules.templates.output.templates,
    output:
        structures=f"{RESULTS}/structures/structures.parquet",
    log:
        f"{LOGS}/structures.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(6000, 240),
    params:
        code=source_digest("pipeline.structures.stage"),
        settings=config["structures"]["build"],
    script:
        "../scripts/structures.py"
