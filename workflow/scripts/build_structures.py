from pipeline.door import door

with door(snakemake, "selected", "templates", "ranking") as provenance:
    from pipeline.structures.build import build_structures
    from pipeline.structures.schema import BuildSettings

    build_structures(
        selected_path=snakemake.input.selected,
        samples_paths=snakemake.input.samples,
        templates_path=snakemake.input.templates,
        output_path=snakemake.output.built,
        settings=BuildSettings(**snakemake.params.settings),
        seed=snakemake.params.seed,
        provenance=provenance,
    )
