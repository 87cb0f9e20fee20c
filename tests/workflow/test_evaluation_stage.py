"""The evaluation's target on a small campaign, and what it costs the main job: nothing."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

RULES = {"draw_baseline", "evaluate", "evaluation_page"}


def test_the_generator_is_evaluated_beside_the_baselines(campaign):
    assert campaign.planned("evaluation") == RULES
    said = campaign.run("evaluation").stdout
    assert "Evaluation: results/small/evaluation/evaluation.html" in said
    assert campaign.planned("evaluation") == campaign.planned() == set()
    folder = campaign.results / "evaluation"
    sets = json.loads((folder / "evaluation.json").read_text())["sets"]
    assert list(sets) == ["samples", "random", "enumeration", "ngram", "substitution"]
    assert all(figures["draws"] <= 4000 for figures in sets.values())
    assert all(sets[name]["draws"] == 4000 for name in list(sets)[1:])
    html = (folder / "evaluation.html").read_text()
    assert "generator" in html and "trigram" in html

    command = [sys.executable, "-m", "pipeline.evaluation", "--baselines", "none", "--output", "peer"]
    samples, campaign_folder = campaign.results / "sampling" / "samples", campaign.results
    found = subprocess.run(
        [*command, "--campaign", campaign_folder, samples], cwd=campaign.folder, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    [(_, again)] = json.loads((campaign.folder / "peer" / "evaluation.json").read_text())["sets"].items()
    assert again["uniqueness"] == sets["samples"]["uniqueness"]
    assert again["validity"] == sets["samples"]["validity"]


def test_a_bad_file_ends_with_one_line(campaign, tmp_path):
    (tmp_path / "few.csv").write_text("formula\nNaCl\n")
    command = [sys.executable, "-m", "pipeline.evaluation", str(tmp_path / "few.csv"), "--campaign"]
    few = subprocess.run([*command, campaign.results], cwd=campaign.folder, capture_output=True, text=True)
    assert few.returncode == 1 and "few.csv: 1 formulas of 2 to 8 elements are too few" in few.stderr
    nowhere = subprocess.run([*command, "results/none"], cwd=campaign.folder, capture_output=True, text=True)
    assert nowhere.returncode == 1 and "snakemake --cores 2 encoding" in nowhere.stderr
    assert "Traceback" not in few.stderr + nowhere.stderr
