from pipeline.door import door

with door(snakemake, "rows", "built") as provenance:
    from pipeline.structures.reference_schema import HullSettings
    from pipeline.structures.references import write_references
    from pipeline.structures.relaxation_schema import RelaxationSettings

    write_references(
        rows_paths=snakemake.input.rows,
        built_path=snakemake.input.built,
        output_path=snakemake.output.references,
        settings=HullSettings(**snakemake.params.settings["hull"]),
        relaxation=RelaxationSettings(**snakemake.params.settings["relax"]),
        cache_dir=snakemake.params.cache,
        processes=snakemake.threads,
        device=snakemake.params.device,
        provenance=provenance,
    )
