rule export_folder:
    input:
        structures=rules.judge.output.structures,
        sources=rules.clean_rows.output.sources,
        models=all_model_files(),
        generator=rules.train.output.generator,
    output:
        sums=f"{RESULTS}/export/SHA256SUMS",
    log:
        f"{LOGS}/export.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(3000, 30),
    params:
        code=source_digest("pipeline.export"),
        seed=SEED,
        settings={"campaign": config["campaign"], "export": config["export"]},
    script:
        "../scripts/export.py"
