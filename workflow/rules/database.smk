SOURCES = {source["name"]: with_paths(source) for source in config["database"]["sources"]}
if len(SOURCES) < len(config["database"]["sources"]):
    fail(
        f"database.sources: a name stands twice in {[source['name'] for source in config['database']['sources']]}; rename one"
    )
FETCHED = [name for name, source in SOURCES.items() if source["kind"] in REMOTE and "snapshot" not in source]
# What is there needs no rule: Snakemake deletes what it makes anew, and a script's time is reason enough for that.
MISSING = [name for name in FETCHED if not is_fetched(name)]
ABOUT = {name: path for name in SOURCES if (path := about(name))}


rule fetch:
    output:
        snapshot=f"{RESULTS}/database/{{source}}/snapshot.jsonl.gz",
        about=f"{RESULTS}/database/{{source}}/snapshot.json",
    log:
        f"{LOGS}/fetch_{{source}}.log",
    wildcard_constraints:
        source="|".join(MISSING) or "(?!)",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 720),
    # No digest of the code: an edit of ours is no reason to ask somebody's server for everything again.
    params:
        code=None,
        settings=lambda wildcards: asked(SOURCES[wildcards.source]),
        partial=f"{RESULTS}/database/{{source}}/partial",
    script:
        "../scripts/fetch.py"


rule read_rows:
    input:
        unpack(lambda wildcards: snapshot(wildcards.source)),
    output:
        rows=f"{RESULTS}/database/{{source}}/rows.parquet",
        rejects=f"{RESULTS}/database/{{source}}/rejects.parquet",
    log:
        f"{LOGS}/read_rows_{{source}}.log",
    wildcard_constraints:
        source="|".join(SOURCES),
    conda:
        "../envs/kimberlite.yaml"
    threads: lambda wildcards: 4 if SOURCES[wildcards.source]["kind"] == "structures" else 1
    resources:
        **needs(8000, 60),
    params:
        code=lambda wildcards: source_digest(*reader(SOURCES[wildcards.source])),
        settings=lambda wildcards: {
            "source": {key: value for key, value in SOURCES[wildcards.source].items() if key not in SAID},
            "max_rejected_share": config["database"]["max_rejected_share"],
        },
        files=lambda wildcards: stamp(SOURCES[wildcards.source]),
    script:
        "../scripts/read_rows.py"


rule clean_rows:
    input:
        rows=expand(rules.read_rows.output.rows, source=SOURCES),
        rejects=expand(rules.read_rows.output.rejects, source=SOURCES),
        about=list(ABOUT.values()),
    output:
        entries=f"{RESULTS}/database/entries.parquet",
        cleaning=f"{RESULTS}/database/cleaning.json",
        sources=f"{RESULTS}/database/sources.json",
        summary=f"{RESULTS}/database/summary.txt",
    log:
        f"{LOGS}/clean_rows.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(8000, 60),
    params:
        code=source_digest("pipeline.database.stage"),
        settings={"sources": list(SOURCES.values()), "cleaning": config["database"]["cleaning"]},
        about=ABOUT,
    script:
        "../scripts/clean_rows.py"
