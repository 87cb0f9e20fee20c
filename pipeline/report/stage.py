"""Entry point of the report stage: every table of a campaign in, one page and its static pictures out."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.database.schema import REJECTS
from pipeline.filtering.baseline import SETTINGS, element_frequency
from pipeline.filtering.history import HISTORY
from pipeline.filtering.schema import Rules
from pipeline.provenance import derived_seed
from pipeline.report import campaign as read
from pipeline.report import candidates, cards, models, overview, page, scores, sections
from pipeline.screening.criteria import Criteria
from pipeline.structures.reference_schema import REFERENCES, reference_set
from pipeline.structures.schema import STRUCTURES

SHOWN = 1800
"""Most known formulas, samples, and scored candidates that a figure shows one by one."""

Path = str | os.PathLike


def write_report(
    *,
    entries: Path,
    rejects: Sequence[Path],
    sources_json: Path,
    cleaning_json: Path,
    vocabulary_json: Path,
    split: Path,
    tensors: Path,
    history: Path,
    reconstruction_json: Path | None,
    draw_counts: Sequence[Path],
    samples: Sequence[Path],
    filtered: Sequence[Path],
    pass_rates_json: Path,
    filter_history: Path,
    screened: Sequence[Path],
    selected: Path,
    model_folders: Sequence[Path],
    structures: Path,
    references: Path,
    manifest_csv: Path,
    output_html: Path,
    figures_dir: Path,
    seed: int,
    campaign: str,
    command: str,
    settings: dict,
    provenance: dict | None = None,
) -> None:
    """Write the page and the pictures of ``overview.FIGURES``.

    Args:
        entries, rejects, cleaning_json, sources_json: What the database stage wrote.
        vocabulary_json, split, tensors: What the encoding stage wrote.
        history: Training's history; its columns depend on the generator.
        reconstruction_json: The autoencoder's result; None if none was trained.
        draw_counts: What each sampling job counted (JSON: drawn, ambiguous, empty).
        samples, filtered, screened: Parts of the tables of these names.
        pass_rates_json, filter_history: Pass rates with their baselines, and the samples' quality by epoch.
        selected: The selected candidates.
        model_folders: Folders of the property models.
        structures: The structures stage's table.
        references: What its hull distances were measured from.
        manifest_csv: The export's manifest.
        output_html: Gets the page.
        figures_dir: Gets the pictures.
        seed: Campaign seed.
        campaign: Its name.
        command: What repeats the campaign.
        settings: The config: what to show, and the criteria of the ranking.
        provenance: Versions and code digest are shown.

    Raises:
        ValueError: A file is missing or damaged, or the counts of the stages do not add up.
    """
    known = read.read_known(entries, split, tensors)
    sampled = read.read_samples(samples, known.compositions, SHOWN)
    verdicts, rejected_by_filter, n_survived = read.read_verdicts(filtered)
    scored, chosen = read.read_scores(screened, SHOWN), read.read_selected(selected)
    manifest = read.read_manifest(manifest_csv)
    cleaning = tables.read_json(cleaning_json)
    database, gates = read.read_funnels(
        known=known,
        sampled=sampled,
        cleaning=cleaning,
        draws=[tables.read_json(path) for path in draw_counts],
        rejected_by_filter=rejected_by_filter,
        n_survived=n_survived,
        scores=scored,
        structures=structures,
        n_exported=len(manifest),
    )
    criteria = Criteria(**settings["screening"]["select"])
    rates = tables.read_json(pass_rates_json)
    by_epoch = tables.read(filter_history, HISTORY).to_pydict()
    reconstruction = None if reconstruction_json is None else tables.read_json(reconstruction_json)
    exported = _formulas_of(chosen, {line["formula"] for line in manifest})
    vocabulary = tables.read_json(vocabulary_json)["elements"]
    predictors = [read.read_model(folder) for folder in model_folders]
    crystals = tables.read(structures, STRUCTURES).sort_by([("rank", "ascending"), ("id", "ascending")])
    measured_from = tables.read(references, REFERENCES)
    html = page.render(
        f"Kimberlite: campaign {campaign}",
        f"{gates[0].left:,} draws, {sampled.n_formulas:,} distinct formulas, "
        f"{len(manifest):,} candidate structures for DFT",
        [
            ("Campaign", sections.header(campaign, seed, command, settings, provenance or {})),
            (
                "Funnel",
                sections.funnel(
                    database,
                    gates,
                    len(manifest),
                    len(exported),
                    verdicts,
                    tables.read_all(rejects, REJECTS).to_pylist(),
                    tables.read_json(sources_json),
                ),
            ),
            ("Training", sections.learning(read.read_history(history), by_epoch, reconstruction)),
            ("Validity and novelty", sections.validity(rates, _stated(SETTINGS), known, sampled, cleaning["dropped"])),
            ("Elements", sections.elements(known, sampled, len(vocabulary))),
            (
                "Chemical space",
                candidates.chemical_map(known, sampled.shown, exported, SHOWN, derived_seed(seed, "report")),
            ),
            ("Scores", scores.scores(known.table, scored, chosen, [about for about, _ in predictors], criteria)),
            ("Ranking", scores.ranking(scored, chosen, criteria)),
            ("Property models", models.models(predictors)),
            ("Candidates", candidates.candidate_table(manifest)),
            ("Crystals", cards.cards(crystals, measured_from) + cards.changed_symmetries(crystals)),
            ("Limits", candidates.limits(reference_set(measured_from))),
        ],
    )
    strictest = list(rates)[-1]
    overview.draw(
        figures_dir,
        gates=gates,
        n_structures=len(manifest),
        rates=rates[strictest]["sets"],
        setting=strictest,
        elements={
            "training set": (element_frequency(known.training), len(known.training)),
            "samples": (sampled.element_formulas, sampled.n_formulas),
        },
    )
    with tables.atomic(output_html) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _formulas_of(selected: pa.Table, formulas: set[str]) -> Compositions:
    """Compositions of those selected formulas that are among ``formulas``, each once."""
    compositions = Compositions.from_table(selected)
    compositions = compositions.take(compositions.unique()[0])
    mine = np.array([formula in formulas for formula in compositions.formulas().to_pylist()], dtype=bool)
    return compositions.take(mine)


def _stated(settings: dict[str, Rules]) -> dict[str, str]:
    """The filter's settings in words."""
    return {
        name: f"oxidation states {rules.oxidation_states}, "
        + ("formulas of metals only pass untested" if rules.include_alloys else "alloys tested like the rest")
        + f", Pauling test {'on' if rules.pauling_test else 'off'}"
        + f", mixed valence {'on' if rules.mixed_valence else 'off'}"
        for name, rules in settings.items()
    }
