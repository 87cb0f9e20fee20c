from pipeline.door import door

with door(snakemake, "rows") as provenance:
    from pipeline.structures.template_schema import TemplateSettings
    from pipeline.structures.templates import build_templates

    build_templates(
        rows_paths=snakemake.input.rows,
        output_path=snakemake.output.templates,
        settings=TemplateSettings(**snakemake.params.settings),
        processes=snakemake.threads,
        provenance=provenance,
    )
