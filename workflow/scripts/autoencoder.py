from pipeline.door import door

with door(snakemake) as provenance:
    from pipeline.training.autoencoder import AutoencoderSettings, autoencode

    autoencode(
        settings=AutoencoderSettings(**snakemake.params.settings),
        entries_path=snakemake.input.entries,
        vocabulary_path=snakemake.input.vocabulary,
        split_path=snakemake.input.split,
        reconstruction_path=snakemake.output.reconstruction,
        checkpoints=snakemake.params.checkpoints,
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        threads=snakemake.threads,
        provenance=provenance,
    )
