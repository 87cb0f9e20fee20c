from pipeline.door import door

with door(snakemake, "filtered", "entries", "formation_energy", "band_gap") as provenance:
    from pipeline.screening.predict import predict_part

    predict_part(
        filtered_path=snakemake.input.filtered,
        predicted_path=snakemake.output.predicted,
        entries_path=snakemake.input.entries,
        formation_energy_model=snakemake.params.formation_energy,
        band_gap_model=snakemake.params.band_gap,
        threads=snakemake.threads,
        provenance=provenance,
    )
