from pipeline.door import door

with door(snakemake, "samples", "states") as provenance:
    from pipeline.filtering.schema import Rules
    from pipeline.filtering.stage import filter_part

    settings = dict(snakemake.params.settings)
    filter_part(
        samples_path=snakemake.input.samples,
        filtered_path=snakemake.output.filtered,
        reject=settings.pop("reject"),
        rules=Rules(**settings),
        provenance=provenance,
    )
