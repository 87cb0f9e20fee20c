rule write_report:
    input:
        entries=rules.clean_rows.output.entries,
        rejects=rules.clean_rows.input.rejects,
        sources_json=rules.clean_rows.output.sources,
        cleaning_json=rules.clean_rows.output.cleaning,
        vocabulary_json=rules.hold_out.output.vocabulary,
        split=rules.hold_out.output.split,
        tensors=rules.encode.output.tensors,
        history=rules.train.output.history,
        reconstruction_json=rules.autoencode.output.reconstruction,
        draw_counts=expand(rules.draw.output.counts, job=SHARDS),
        samples=expand(rules.collect.output.samples, part=SHARDS),
        filtered=expand(rules.filter.output.filtered, part=SHARDS),
        pass_rates_json=rules.pass_rates.output.pass_rates,
        filter_history=rules.filter_history.output.history,
        screened=rules.select_candidates.output.screened,
        selected=rules.select_candidates.output.selected,
        models=all_model_files(),
        structures=rules.judge.output.structures,
        references=rules.references.output.references,
        export=rules.export_folder.output.sums,
    output:
        html=report(
            f"{RESULTS}/report/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
        overview=report(
            f"{RESULTS}/report/figures/overview.png",
            caption="../report/overview.rst",
            category="Figures",
        ),
        funnel=report(
            f"{RESULTS}/report/figures/funnel.svg",
            caption="../report/funnel.rst",
            category="Figures",
        ),
        pass_rates=report(
            f"{RESULTS}/report/figures/pass_rates.svg",
            caption="../report/pass_rates.rst",
            category="Figures",
        ),
        elements=report(
            f"{RESULTS}/report/figures/elements.svg",
            caption="../report/elements.rst",
            category="Figures",
        ),
    log:
        f"{LOGS}/report.log",
    conda:
        "../envs/kimberlite.yaml"
    resources:
        **needs(4000, 30),
    params:
        code=source_digest("pipeline.report.stage"),
        seed=SEED,
        settings={key: value for key, value in config.items() if key != "cluster"},
        campaign=config["campaign"],
        model_folders=lambda wildcards, input: sorted({str(Path(path).parent) for path in input.models}),
        figures=lambda wildcards, output: str(Path(output.overview).parent),
    script:
        "../scripts/report.py"
