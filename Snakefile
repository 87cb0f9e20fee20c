import os
import sys

from snakemake.utils import min_version

min_version("9.19")
sys.path.insert(0, workflow.basedir)
# Jobs run in processes of their own, on a cluster on other machines: they find the package beside this file too.
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [workflow.basedir, os.getenv("PYTHONPATH")])))


configfile: f"{workflow.basedir}/config/config.yaml"


from pipeline.configuration import check

try:
    check(config, f"{workflow.basedir}/workflow/schemas/config.schema.json")
except ValueError as error:
    raise SystemExit(f"kimberlite: {error}")


include: "workflow/rules/common.smk"
include: "workflow/rules/database.smk"
include: "workflow/rules/encoding.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/sampling.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/filtering.smk"
include: "workflow/rules/screening.smk"
include: "workflow/rules/structures.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,
    database,
    fetch,
    encoding,
    training,
    sampling,
    evaluation,
    filtering,
    screening,
    structures,
    export,


rule all:
    default_target: True
    input:
        rules.export_folder.output,
        rules.write_report.output,


rule database:
    input:
        rules.clean_rows.input,
        rules.clean_rows.output,


rule encoding:
    input:
        rules.hold_out.output,
        rules.encode.output,


rule training:
    input:
        rules.train.output,
        rules.autoencode.output,


rule sampling:
    input:
        expand(rules.collect.output, part=SHARDS),


rule evaluation:
    input:
        rules.evaluation_page.output,


rule filtering:
    input:
        expand(rules.filter.output, part=SHARDS),
        rules.pass_rates.output,
        rules.filter_history.output,


rule screening:
    input:
        rules.select_candidates.output,


rule structures:
    input:
        rules.judge.output,


rule export:
    input:
        rules.export_folder.output,


onstart:
    begin()


onsuccess:
    tidy()
    for what, path in (
        ("Report", rules.write_report.output.html),
        ("POSCARs and manifest", f"{RESULTS}/export"),
        ("Evaluation", rules.evaluation_page.output.page),
    ):
        if os.path.exists(path):
            print(f"{what}: {path}")


onerror:
    if config_files() != CONFIG_FILES:
        print(f"kimberlite: {EDITED}")
