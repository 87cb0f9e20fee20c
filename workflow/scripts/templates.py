from pipeline.door import door

with door(snakemake, "entries") as provenance:
    from pipeline.structures.template_schema import TemplateSettings
    from pipeline.structures.templates import build_templates

    build_templates(
        entries_path=snakemake.input.entries,
        output_path=snakemake.output.templates,
        settings=TemplateSettings(**snakemake.params.settings),
        provenance=provenance,
    )
