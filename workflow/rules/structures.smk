from pipeline.structures.relaxation_schema import RelaxationSettings, check_potential

RANKING = os.path.relpath(Path(workflow.basedir) / "resources/models/template_ranking/classes.txt.gz")
# Relaxed cells, for all campaigns: by the digest of what relaxed them, so that no other code or potential is mistaken.
RELAXATIONS = "results/shared/relaxations"

try:
    check_potential(RelaxationSettings(**config["structures"]["relax"]))
except ValueError as error:
    fail(f"structures.relax: {error}")


rule templates:
    input:
        rows=rules.clean_rows.input.rows,
    output:
        templates=f"{RESULTS}/structures/templates.parquet",
    log:
        f"{LOGS}/templates.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["structures"]["threads"]
    resources:
        **needs(8000, 120),
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
        ranking=RANKING,
    output:
        built=f"{RESULTS}/structures/built.parquet",
    log:
        f"{LOGS}/build_structures.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(6000, 120),
    params:
        code=source_digest("pipeline.structures.build"),
        settings=config["structures"]["build"],
        seed=SEED,
    script:
        "../scripts/build_structures.py"


rule relax:
    input:
        built=rules.build_structures.output.built,
    output:
        relaxed=f"{RESULTS}/structures/relaxed.parquet",
    log:
        f"{LOGS}/relax.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["structures"]["threads"]
    resources:
        **needs(8000, 480, gpu=True),
    params:
        code=source_digest("pipeline.structures.relaxation"),
        settings=config["structures"]["relax"],
        device=config["structures"]["device"],
        cache=RELAXATIONS,
    script:
        "../scripts/relax.py"


rule references:
    input:
        rows=rules.clean_rows.input.rows,
        built=rules.build_structures.output.built,
    output:
        references=f"{RESULTS}/structures/references.parquet",
    log:
        f"{LOGS}/references.log",
    conda:
        "../envs/kimberlite.yaml"
    threads: config["structures"]["threads"]
    resources:
        **needs(8000, 480, gpu=True),
    params:
        code=source_digest("pipeline.structures.references"),
        settings={
            "hull": config["structures"]["hull"],
            "relax": config["structures"]["relax"],
        },
        device=config["structures"]["device"],
        cache=RELAXATIONS,
    script:
        "../scripts/references.py"


rule judge:
    input:
        relaxed=rules.relax.output.relaxed,
        references=rules.references.output.references,
        rows=rules.clean_rows.input.rows,
    output:
        structures=f"{RESULTS}/structures/structures.parquet",
    log:
        f"{LOGS}/judge.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(6000, 60),
    params:
        code=source_digest("pipeline.structures.judge"),
        settings=config["structures"]["judge"],
    script:
        "../scripts/judge.py"
