BASELINES = ["random", "enumeration", "ngram", "substitution"]
EVALUATED = ["samples", *BASELINES]
# A set lies in memory whole: about 350 MB a million draws.
EVALUATION_MB = 3000 + config["sampling"]["n_samples"] // 2500


rule draw_baseline:
    input:
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
    output:
        drawn=f"{RESULTS}/evaluation/{{baseline}}.parquet",
    log:
        f"{LOGS}/draw_baseline-{{baseline}}.log",
    wildcard_constraints:
        baseline="|".join(BASELINES),
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(EVALUATION_MB, 60),
    params:
        code=source_digest("pipeline.evaluation.baselines"),
        settings={"n_drawn": config["sampling"]["n_samples"]},
        seed=SEED,
    script:
        "../scripts/draw_baseline.py"


rule evaluate:
    input:
        drawn=lambda wildcards: (
            expand(rules.collect.output, part=SHARDS)
            if wildcards.set == "samples"
            else f"{RESULTS}/evaluation/{wildcards.set}.parquet"
        ),
        entries=rules.clean_rows.output.entries,
        split=rules.hold_out.output.split,
    output:
        figures=f"{RESULTS}/evaluation/{{set}}.json",
    log:
        f"{LOGS}/evaluate-{{set}}.log",
    wildcard_constraints:
        set="|".join(EVALUATED),
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(EVALUATION_MB, 60),
    params:
        code=source_digest("pipeline.evaluation.stage"),
        seed=SEED,
    script:
        "../scripts/evaluate.py"


rule evaluation_page:
    input:
        figures=expand(rules.evaluate.output.figures, set=EVALUATED),
    output:
        page=f"{RESULTS}/evaluation/evaluation.html",
        figures=f"{RESULTS}/evaluation/evaluation.json",
    log:
        f"{LOGS}/evaluation_page.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(1000, 10),
    params:
        code=source_digest("pipeline.evaluation.page"),
        sets=EVALUATED,
        about={"campaign": config["campaign"], "generator": config["generator"], "preset": config["training"]["preset"]},
    script:
        "../scripts/evaluation_page.py"
