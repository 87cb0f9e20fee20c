import os
from pathlib import Path

from pipeline.door import door

with door(snakemake) as provenance:
    from pipeline.report.stage import write_report

    inputs = {name: value for name, value in snakemake.input.items() if name not in ("models", "export")}
    write_report(
        **inputs,
        model_folders=snakemake.params.model_folders,
        manifest_csv=Path(snakemake.input.export).with_name("manifest.csv"),
        output_html=snakemake.output.html,
        figures_dir=snakemake.params.figures,
        seed=snakemake.params.seed,
        campaign=snakemake.params.campaign,
        command=os.environ["KIMBERLITE_COMMAND"],
        settings=snakemake.params.settings,
        provenance={"versions": provenance["versions"], "code": provenance["code"]},
    )
