from pipeline.door import door

with door(snakemake, "predicted", "entries", "decomposition_energy", "band_gap") as provenance:
    from pipeline.screening.criteria import Criteria
    from pipeline.screening.distribution import Residuals, read_quantiles
    from pipeline.screening.select import select

    models = snakemake.input.decomposition_energy, snakemake.input.band_gap
    select(
        predicted_paths=snakemake.input.predicted,
        entries_path=snakemake.input.entries,
        screened_paths=snakemake.output.screened,
        selected_path=snakemake.output.selected,
        criteria=Criteria(**snakemake.params.settings),
        residuals=Residuals(*map(read_quantiles, models)),
        provenance=provenance,
    )
