"""kill -9 at a random moment, and the rerun.

A power cut kills Snakemake with all of its jobs at a moment drawn evenly over the whole command; an out-of-memory kill
takes the job alone, at a moment of its life. Then the same command runs again, nothing else. A kill that came after the
end was drawn anew, and is not counted.
"""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.stage import differences, job_killed, mend, power_cut, timed

pytestmark = pytest.mark.slow
GROUP = "Killed at a random moment"
RULES = (
    "read_rows clean_rows hold_out encode train autoencode draw collect filter pass_rates filter_history "
    "train_likeness predict select_candidates templates build_structures relax references judge export_folder "
    "write_report"
).split()
QUICK = "export_folder"


def test_every_rule_has_its_trials(stages):
    assert set(stages) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_killed_rule(rule, sites, stages, intact, trials, record):
    n = trials(int(rule == QUICK), 10)
    record(GROUP, f"`{rule}`, {stages[rule].seconds:.1f} s", f"{n} power cuts, {n} kills of the job", "same bytes")
    with ThreadPoolExecutor(2) as threads:
        for done in [
            threads.submit(killed, fault, site, stages[rule], intact, n)
            for fault, site in zip((power_cut, job_killed), sites, strict=True)
        ]:
            done.result()


def killed(fault, site, stage, intact, n) -> None:
    """Kill and mend n times."""
    stage = timed(site, stage)
    moment, hits = random.Random(f"{stage.rule} {fault.__name__}"), 0
    while hits < n:
        stage.clear(site)
        hits += fault(site, stage, moment)
        mend(site, stage)
        assert differences(site, intact) == []
