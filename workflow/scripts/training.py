from pipeline.door import door

with door(snakemake, "tensors", "split") as provenance:
    from pipeline.training.stage import train

    train(
        generator=snakemake.params.generator,
        preset=snakemake.params.settings["preset"],
        overrides=snakemake.params.settings["settings"],
        **{
            f"{name}_path": path
            for name, path in {**dict(snakemake.input.items()), **dict(snakemake.output.items())}.items()
        },
        checkpoints=snakemake.params.checkpoints,
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        # Not by params: another number of processes is no reason to train anew.
        threads=min(snakemake.config["training"]["threads"], snakemake.threads),
        processes=snakemake.config["training"]["processes"],
        nodes=snakemake.config["training"]["nodes"],
        provenance=provenance,
    )
