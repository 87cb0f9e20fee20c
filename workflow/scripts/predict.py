from pathlib import Path

from pipeline.door import door

with door(snakemake, "filtered", "entries", "models", "likeness") as provenance:
    from pipeline.screening.predict import predict_part

    predict_part(
        filtered_path=snakemake.input.filtered,
        predicted_path=snakemake.output.predicted,
        entries_path=snakemake.input.entries,
        models={**snakemake.params.folders, "likeness": Path(snakemake.input.likeness).parent},
        threads=snakemake.threads,
        provenance=provenance,
    )
