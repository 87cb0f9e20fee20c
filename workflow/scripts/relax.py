from pipeline.door import door

with door(snakemake, "built") as provenance:
    from pipeline.structures.relaxation import relax_structures
    from pipeline.structures.relaxation_schema import RelaxationSettings

    relax_structures(
        built_path=snakemake.input.built,
        output_path=snakemake.output.relaxed,
        settings=RelaxationSettings(**snakemake.params.settings),
        cache_dir=snakemake.params.cache,
        processes=snakemake.threads,
        device=snakemake.params.device,
        provenance=provenance,
    )
