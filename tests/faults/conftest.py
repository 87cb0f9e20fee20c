"""The fault campaign: a few trials of each fault by default; all, and a written report, with `--reliability FILE`."""

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.campaign import Campaign
from tests.faults.stage import Stage, differences, stages_of

HEAD = """<!-- Written by `make faults`; do not edit. -->
# What happens when something goes wrong

Every fault below was done for real to a small campaign that Snakemake ran (1,500 formulas, 4,000 draws, seconds a
stage, training on the CPU), and what came out was compared byte for byte with a campaign that nothing disturbed.
"Same bytes" means: every file under `results/<campaign>/` is the same, and no other file was left there.

{date}, {cores} cores, {system}, Python {python}, {versions}. {verdict} {minutes:.0f} minutes.
"""


@dataclass
class Row:
    """One line of a table of the report."""

    group: str
    fault: str
    trials: int | str
    outcome: str


class Reliability:
    """Gathers what the tests record and how they ended, and writes the report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.of_test: dict[str, list[Row]] = {}
        self.about: dict[str, str] = {}
        self.ended = {"passed": 0, "failed": 0, "skipped": 0}
        self.deselected = 0
        self.begun = time.monotonic()

    def add(self, item: pytest.Item, row: Row) -> None:
        """Keep a row as one of this test's."""
        self.rows.append(row)
        self.of_test.setdefault(item.nodeid, []).append(row)

    def ends(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Count a test's end; one that failed or was skipped says so in its rows, whatever it recorded."""
        if report.when != "call" and report.outcome == "passed":
            return
        self.ended[report.outcome] += 1
        if report.outcome == "passed":
            return
        if item.nodeid not in self.of_test:
            group = getattr(item.module, "GROUP", item.module.__name__)
            self.add(item, Row(group, item.name.removeprefix("test_").replace("_", " "), "", ""))
        reason = report.longrepr[2] if report.outcome == "skipped" else report.longrepr.reprcrash.message.split("\n")[0]
        for row in self.of_test[item.nodeid]:
            row.outcome = f"{'not run' if report.outcome == 'skipped' else '**FAILED**'}: {reason[:200]}"

    def write(self, exit_status: int | None = None) -> None:
        """Write the report as Markdown; without an exit status it says that the campaign is not finished."""
        total = sum(self.ended.values())
        verdict = f"{self.ended['passed']} of {total} tests passed"
        verdict += f", **{self.ended['failed']} FAILED**" * bool(self.ended["failed"])
        verdict += f", {self.ended['skipped']} not run" * bool(self.ended["skipped"])
        verdict += f", {self.deselected} left out" * bool(self.deselected)
        verdict += ", **NOT FINISHED**" * (exit_status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
        packages = ("snakemake", "torch", "pyarrow", "safetensors")
        text = HEAD.format(
            date=datetime.date.today().isoformat(),
            cores=os.cpu_count(),
            system=platform.system(),
            python=platform.python_version(),
            versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
            verdict=f"{verdict}.",
            minutes=(time.monotonic() - self.begun) / 60,
        )
        for group in dict.fromkeys(row.group for row in self.rows):
            text += f"\n## {group}\n{self.about.get(group, '')}\n\n| fault | trials | outcome |\n|---|---|---|\n"
            for row in self.rows:
                if row.group == group:
                    cells = [str(cell).replace("|", "\\|") for cell in (row.fault, row.trials, row.outcome)]
                    text += f"| {' | '.join(cells)} |\n"
        self.path.write_text(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reliability", metavar="FILE", type=Path, help="run the full fault campaign and write its report here"
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--reliability", None)
    config.reliability = Reliability(path.absolute()) if path else None


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and items[0].config.reliability:
        items[0].config.reliability.deselected += len(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if item.config.reliability:
        item.config.reliability.ends(item, report)
        item.config.reliability.write()
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.reliability:
        session.config.reliability.write(exitstatus)


@pytest.fixture(scope="session")
def trials(pytestconfig) -> Callable[[int, int], int]:
    """`trials(quick, full)`: how often a test does its fault in this run; a test of no trial is skipped."""

    def number(quick: int, full: int) -> int:
        chosen = full if pytestconfig.reliability else quick
        if not chosen:
            pytest.skip("only in the full campaign")
        return chosen

    return number


@pytest.fixture
def record(request, tmp_path_factory) -> Callable[[str, str, int | str, str], None]:
    """`record(group, fault, trials, outcome)`: a row of the report; the module's docstring stands above its group."""
    reliability = request.config.reliability
    folders = re.compile(
        rf"{re.escape(str(tmp_path_factory.getbasetemp()))}/[^/ ]+/"
    )  # of this machine, of no interest

    def add(group: str, fault: str, trials: int | str, outcome: str) -> None:
        if reliability:
            reliability.about.setdefault(group, request.module.__doc__.partition("\n\n")[2].strip())
            reliability.add(request.node, Row(group, fault, trials, folders.sub("", outcome)))

    return add


@pytest.fixture(scope="session")
def intact(finished) -> dict[str, bytes]:
    """Every file of the undisturbed campaign."""
    return finished.files()


@pytest.fixture(scope="session")
def copies(tmp_path_factory, finished) -> list[Campaign]:
    """Two copies of the finished campaign, one for each of two trials at a time."""
    return [finished.copy(tmp_path_factory.mktemp("site")) for _ in range(2)]


@pytest.fixture
def sites(copies, finished, intact) -> list[Campaign]:
    """The two copies, to break and mend; one that a failed test left broken is made anew."""
    for site in copies:
        if differences(site, intact):
            shutil.rmtree(site.folder)
            finished.copy(site.folder)
    return copies


@pytest.fixture(scope="session")
def stages(finished) -> dict[str, Stage]:
    """Each rule's job in the small campaign (of several, the first)."""
    return stages_of(finished)
