"""The door: log, provenance, and one line for the user's own faults."""

import sys
from types import SimpleNamespace

import pytest

from pipeline.door import door


class Params(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


@pytest.fixture
def job(tmp_path):
    """What Snakemake hands to a script."""
    (tmp_path / "in").write_bytes(b"x")
    return SimpleNamespace(
        rule="cook",
        log=[str(tmp_path / "logs" / "cook.log")],
        params=Params(code="c0de", seed=3, settings={"x": 1}),
        input={"food": str(tmp_path / "in"), "other": str(tmp_path / "nowhere")},
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


def test_a_missing_input_is_the_users(job, capsys):
    with pytest.raises(SystemExit), door(job, "other"):
        pass
    assert "nowhere" in capsys.readouterr().err


def test_our_own_fault_is_shown_in_full(job):
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), door(job, "food"):
        raise KeyError("salt")
    assert (sys.stdout, sys.stderr) == before
