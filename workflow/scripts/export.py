from pathlib import Path

from pipeline.door import door

with door(snakemake, "structures", "sources", "generator", "models") as provenance:
    from pipeline.export import export
    from pipeline.export.settings import ExportSettings

    export(
        structures_path=snakemake.input.structures,
        sources_path=snakemake.input.sources,
        output_dir=Path(snakemake.output.sums).parent,
        model_paths=[snakemake.input.generator, *snakemake.input.models],
        seed=snakemake.params.seed,
        settings=ExportSettings.from_config(snakemake.params.settings["export"]),
        provenance=provenance,
    )
