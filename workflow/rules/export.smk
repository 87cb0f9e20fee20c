rule export_folder:
    input:
        structures=rules.build_structures.output.structures,
        models=[*model_files("formation_energy_ev_per_atom"), *model_files("band_gap_ev")],
        generator=rules.train.output.generator,
    output:
        folder=directory(f"{RESULTS}/export"),
    params:
        code=source_digest("pipeline.export"),
        seed=SEED,
    log:
        f"{LOGS}/export.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    script:
        "../scripts/export.py"
