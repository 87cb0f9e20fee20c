from pipeline.door import door

with door(snakemake, "relaxed", "references", "rows") as provenance:
    from pipeline.structures.judge import judge_structures
    from pipeline.structures.schema import JudgeSettings

    judge_structures(
        relaxed_path=snakemake.input.relaxed,
        references_path=snakemake.input.references,
        rows_paths=snakemake.input.rows,
        output_path=snakemake.output.structures,
        settings=JudgeSettings(**snakemake.params.settings),
        provenance=provenance,
    )
