from pipeline.door import door

with door(snakemake, "predicted", "entries") as provenance:
    from pipeline.screening.select import Cutoffs, select

    select(
        predicted_paths=snakemake.input.predicted,
        entries_path=snakemake.input.entries,
        screened_paths=snakemake.output.screened,
        selected_path=snakemake.output.selected,
        cutoffs=Cutoffs(**snakemake.params.settings),
        provenance=provenance,
    )
