from pipeline.door import door

with door(snakemake, "selected", "templates") as provenance:
    from pipeline.structures.schema import StructureSettings
    from pipeline.structures.stage import build_structures

    build_structures(
        selected_path=snakemake.input.selected,
        samples_paths=snakemake.input.samples,
        templates_path=snakemake.input.templates,
        output_path=snakemake.output.structures,
        settings=StructureSettings(**snakemake.params.settings),
        provenance=provenance,
    )
