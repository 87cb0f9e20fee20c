"""The door: log, provenance, and one line for the user's own faults."""

import os
import sys
from types import SimpleNamespace

import pytest

from pipeline.door import door
from pipeline.locks import VARIABLE, claim


class Params(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


class Named(dict):
    """Snakemake's inputs: by name, and in a row."""

    def __iter__(self):
        return iter(self.values())


@pytest.fixture
def job(tmp_path, monkeypatch):
    """What Snakemake hands to a script."""
    monkeypatch.setenv(VARIABLE, "")  # so that what a claim sets is taken back
    (tmp_path / "in").write_bytes(b"x")
    return SimpleNamespace(
        rule="cook",
        output=[],
        log=[str(tmp_path / "logs" / "cook.log")],
        params=Params(code="c0de", seed=3, settings={"x": 1}),
        input=Named(food=str(tmp_path / "in"), other=str(tmp_path / "nowhere")),
    )


def log(job) -> str:
    with open(job.log[0], encoding="utf-8") as handle:
        return handle.read()


def test_terminal_and_log_hear_both_streams(job, capsys):
    before = sys.stdout, sys.stderr
    with door(job, "food") as provenance:
        print("said")
        print("warned Å", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    assert log(job) == "said\nwarned Å\n"
    assert capsys.readouterr() == ("", "said\nwarned Å\n")
    assert (provenance["stage"], provenance["code"], provenance["seed"]) == ("cook", "c0de", 3)
    assert provenance["settings"] == {"x": 1} and list(provenance["inputs"]) == ["food"]


@pytest.mark.parametrize("error", [ValueError("too\nmuch  salt"), OSError("too much salt")])
def test_the_users_fault_is_one_line(job, capsys, error):
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as end, door(job, "food"):
        raise error
    assert end.value.code == 1 and (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().err == "kimberlite: cook: too much salt\n"
    assert "Traceback" in log(job) and log(job).endswith("kimberlite: cook: too much salt\n")


def test_a_lack_of_memory_is_named_with_what_the_rule_asks_for(job, capsys):
    job.resources = Params(mem_mb=3000)
    with pytest.raises(SystemExit), door(job, "food"):
        raise MemoryError("Unable to allocate 1 GiB")
    assert capsys.readouterr().err.startswith("kimberlite: cook: out of memory, the rule asks for 3000 MB (Unable to")


def test_a_job_holds_its_campaign(job):
    """No run begins while it works, whoever started it."""
    folder = os.path.dirname(job.log[0])
    with door(job, "food"), pytest.raises(ValueError, match=f"outlived its run: process {os.getpid()} on "):
        claim(folder, "meals")
    claim(folder, "meals").close()


def test_a_damaged_input_is_refused_by_the_next_rule(job, capsys):
    """What a rule wrote is sealed; a file that no rule wrote is taken as it is."""
    made = job.input["food"] + ".made"
    job.output = [made]
    with door(job, "food"), open(made, "w") as file:
        file.write("meal")
    job.input, job.output = Named(food=made), []
    with door(job, "food"):
        pass
    with open(made, "r+") as file:
        file.write("M")
    with pytest.raises(SystemExit), door(job, "food"):
        raise AssertionError("it would be used")
    assert "in.made: damaged or edited since its stage wrote it; delete it and rerun" in capsys.readouterr().err


def test_a_missing_input_is_the_users(job, capsys):
    with pytest.raises(SystemExit), door(job, "other"):
        pass
    assert "nowhere" in capsys.readouterr().err


def test_our_own_fault_is_shown_in_full(job):
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), door(job, "food"):
        raise KeyError("salt")
    assert (sys.stdout, sys.stderr) == before
