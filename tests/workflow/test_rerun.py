"""Which rules rerun after which change: the promise that a cutoff costs seconds."""

import os
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow

AFTER_JUDGEMENT = {"export_folder", "write_report"}
AFTER_BUILDING = {"relax", "references", "judge", *AFTER_JUDGEMENT}
AFTER_SELECTION = {"select_candidates", "build_structures", *AFTER_BUILDING}
NOT_OF_THE_GENERATOR = {"read_rows", "clean_rows", "hold_out", "autoencode", "templates"}


@contextmanager
def changed(path, old: str, new: str):
    """Inside the block the file reads differently; afterwards it is as it was, its time too."""
    text, stat = path.read_text(), path.stat()
    assert old in text, f"{path} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_nothing_to_do_after_a_run(campaign):
    assert campaign.planned() == set()


def test_a_cutoff_reruns_selection_and_what_follows(campaign):
    overlay = campaign.overlay("cutoff.yaml", screening={"select": {"max_formation_energy_ev_per_atom": -1.0}})
    assert campaign.planned(overlay=overlay) == AFTER_SELECTION
    assert campaign.planned("screening", overlay=overlay) == {"select_candidates"}


def test_what_counts_as_made_trains_likeness_and_scores_again(campaign):
    overlay = campaign.overlay("made.yaml", screening={"likeness": {"max_energy_above_hull_ev_per_atom": None}})
    assert campaign.planned(overlay=overlay) == {"train_likeness", "predict"} | AFTER_SELECTION


def test_how_models_are_trained_matters_to_those_that_are(campaign):
    """The shipped ones are not; one that is trains by its own learners' settings alone."""
    learners = {"band_gap_ev": {"boosted": {"max_trees": 5}}}
    overlay = campaign.overlay("trees.yaml", screening={"training": {"learners": learners}})
    assert campaign.planned(overlay=overlay) == {"write_report"}  # which lists the settings
    overlay = campaign.overlay("own.yaml", screening={"models": {"band_gap_ev": "train"}})
    assert campaign.planned(overlay=overlay) == {"train_property_model", "predict"} | AFTER_SELECTION


def test_what_is_handed_over_is_chosen_without_relaxing_again(campaign):
    """Nor do another input set or another reference set."""
    judge = campaign.overlay("judge.yaml", structures={"judge": {"max_energy_above_hull_ev_per_atom": 0.1}})
    assert campaign.planned(overlay=judge) == {"judge", *AFTER_JUDGEMENT}
    hull = campaign.overlay("hull.yaml", structures={"hull": {"source": "none"}})
    assert campaign.planned(overlay=hull) == {"references", "judge", *AFTER_JUDGEMENT}
    relax = campaign.overlay("relax.yaml", structures={"relax": {"max_steps": 3}})
    assert campaign.planned(overlay=relax) == AFTER_BUILDING
    inputs = campaign.overlay("inputs.yaml", export={"inputs": []})
    assert campaign.planned(overlay=inputs) == AFTER_JUDGEMENT


def test_a_new_column_in_a_screening_table_trains_nothing(campaign):
    column = 'SCREENED = Table(\n    "screened",\n    (\n'
    added = column + '        column("novelty_note", pa.string(), "a note", null="none"),\n'
    with changed(campaign.folder / "pipeline" / "screening" / "select.py", column, added):
        assert campaign.planned() == AFTER_SELECTION


def test_more_processes_train_nothing_anew(campaign):
    overlay = campaign.overlay("processes.yaml", training={"processes": 2})
    assert campaign.planned(overlay=overlay) == {"write_report"}  # which lists the settings


def test_another_generator_trains_nothing(campaign):
    module = campaign.folder / "pipeline" / "generators" / "cubicgan.py"
    module.write_text('"""Another generator."""\n\nPRESETS = {}\n')
    try:
        assert campaign.planned() == set()
    finally:
        module.unlink()


def test_the_generator_not_chosen_trains_nothing(campaign):
    with changed(campaign.folder / "pipeline" / "generators" / "matgan.py", "NOISE = 128", "NOISE = 64"):
        assert "train" not in campaign.planned()


@pytest.mark.parametrize("module", ["filtering/stage.py", "generators/seqgan.py", "composition.py", "tables.py"])
def test_a_docstring_or_a_comment_reruns_nothing(campaign, module):
    with changed(campaign.folder / "pipeline" / module, '"""', '"""Reworded. '):
        assert campaign.planned() == set()
    with changed(campaign.folder / "pipeline" / module, "\nimport", "\n# a comment\nimport"):
        assert campaign.planned() == set()


def test_a_line_of_the_filter_reruns_filtering_and_what_follows(campaign):
    with changed(campaign.folder / "pipeline" / "filtering" / "stage.py", "if reject else", "if not not reject else"):
        assert campaign.planned() == {"filter", "predict"} | AFTER_SELECTION


def test_a_line_of_the_generator_retrains(campaign):
    with changed(campaign.folder / "pipeline" / "generators" / "seqgan.py", "* torch.randn(", "* 1.5 * torch.randn("):
        planned = campaign.planned()
    assert {"encode", "train", "draw", "collect", "filter"} <= planned
    assert not NOT_OF_THE_GENERATOR & planned


def test_settings_of_the_encoding_encode_again_and_those_of_training_do_not(campaign):
    """Generators of compositions have none, so the part of the schema that says so is taken out for the dry run."""
    schema = campaign.folder / "workflow" / "schemas" / "config.schema.json"
    with changed(schema, '"const": "seqgan"', '"const": "nobody"'):
        planned = campaign.planned(overlay=campaign.overlay("encoding.yaml", encoding={"settings": {"box": 4}}))
    assert {"encode", "train", "draw"} <= planned and not NOT_OF_THE_GENERATOR & planned
    planned = campaign.planned(overlay=campaign.overlay("rate.yaml", training={"settings": {"batch_size": 64}}))
    assert {"train", "draw"} <= planned and not {"encode", *NOT_OF_THE_GENERATOR} & planned
    planned = campaign.planned(overlay=campaign.overlay("share.yaml", encoding={"holdout_share": 0.2}))
    assert {"hold_out", "train", "autoencode", "pass_rates"} <= planned


def test_a_cleaning_rule_reads_nothing_again(campaign):
    planned = campaign.planned(overlay=campaign.overlay("rule.yaml", database={"cleaning": {"max_elements": 4}}))
    assert "clean_rows" in planned and "read_rows" not in planned


def test_another_database_file_is_read_again(campaign):
    with changed(campaign.folder / "small.csv", "Xx2O3", "NaCl"):
        assert {"read_rows", "clean_rows"} <= campaign.planned()


def test_another_site_reruns_nothing(campaign):
    """Nor does another name of the overlay."""
    names = {"account": "lab", "partition": "cpus", "gpu_partition": "gpus", "gpu": "--gres=gpu:1"}
    assert campaign.planned(overlay=campaign.overlay("site.yaml", cluster=names)) == set()
