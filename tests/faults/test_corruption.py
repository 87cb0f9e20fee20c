"""Data damaged between two stages.

A single bit flipped at random, or the second half cut off, in every file that a rule reads from an earlier one: the
rule ends with one line that names the file. Without Snakemake, the table reader alone got files with single flipped
bits and files of other schemas: it refuses, or what it reads is what was written.
"""

import json
import os
import random
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import tables
from pipeline.database.schema import ENTRIES, REJECTS
from pipeline.encoding import SPLIT
from pipeline.filtering.history import HISTORY
from pipeline.filtering.schema import FILTERED
from pipeline.sampling import DRAWN, SAMPLES
from pipeline.screening.schema import PREDICTED
from pipeline.screening.select import SCREENED, SELECTED
from pipeline.structures.reference_schema import REFERENCES
from pipeline.structures.schema import BUILT, RELAXED, STRUCTURES
from pipeline.structures.template_schema import TEMPLATES
from pipeline.training.stage import EPOCH_SAMPLES
from tests.faults.stage import complaint, cut_power, differences, mend, when_there
from tests.faults.test_kill import RULES

pytestmark = pytest.mark.slow
GROUP = "Damaged data"
TABLES = {
    "database/entries.parquet": ENTRIES,
    "database/small/rejects.parquet": REJECTS,
    "encoding/split.parquet": SPLIT,
    "training/epoch_samples.parquet": EPOCH_SAMPLES,
    "sampling/drawn/job-0000.parquet": DRAWN,
    "sampling/samples/part-0000.parquet": SAMPLES,
    "filtering/filtered/part-0000.parquet": FILTERED,
    "filtering/history.parquet": HISTORY,
    "screening/predicted/part-0000.parquet": PREDICTED,
    "screening/screened/part-0000.parquet": SCREENED,
    "screening/selected.parquet": SELECTED,
    "structures/templates.parquet": TEMPLATES,
    "structures/built.parquet": BUILT,
    "structures/relaxed.parquet": RELAXED,
    "structures/references.parquet": REFERENCES,
    "structures/structures.parquet": STRUCTURES,
}


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@contextmanager
def changed(path: Path, kind: str, moment: random.Random) -> Iterator[None]:
    """Inside the block the file has a bit flipped or is half as long, under its old time."""
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(flipped(whole, moment.randrange(len(whole) * 8)) if kind == "bit" else whole[: len(whole) // 2])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def inputs_of(site, rule: str) -> list[str]:
    """What the rule's jobs read of earlier stages."""
    notes = (json.loads(note.read_text()) for note in (site.folder / ".snakemake" / "metadata").iterdir())
    files = {file for note in notes if note["rule"] == rule for file in note["input"]}
    return sorted(file for file in files if file.startswith("results/"))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "read_rows"])
def test_damaged_input(rule, sites, stages, intact, trials, record):
    trials(int(rule == "filter"), 1)
    stage = stages[rule]
    files = [file for file in inputs_of(sites[0], rule) if "-0001" not in file]  # the first job reads no other part

    def damaged(site, kind: str) -> int:
        moment = random.Random(rule)
        for path in (site.folder / file for file in files):
            with changed(path, kind, moment):
                stage.clear(site)
                said = stage.run(site)
            assert said.returncode, f"{rule} took a damaged {path.name}"
            line = complaint(said.stdout)
            assert path.name in line, line
        mend(site, stage)
        assert differences(site, intact) == []
        return len(files)

    with ThreadPoolExecutor(2) as threads:
        number = sum(threads.map(damaged, sites, ("bit", "cut")))
    record(GROUP, f"a bit flipped in, or half cut off, each input of `{rule}`", number, "refused, the file named")


def test_damaged_shipped_model(sites, stages, intact, trials, record):
    n = trials(0, 1)
    stage = stages["predict"]
    shipped = Path("resources") / "models"
    weights = sorted((sites[0].folder / shipped).glob("*/*.gz")) + sorted((sites[0].folder / shipped).glob("*/*.safe*"))

    def damaged(site, kind: str) -> None:
        moment = random.Random(kind)
        for path in (site.folder / path.relative_to(sites[0].folder) for path in weights):
            with changed(path, kind, moment):
                stage.clear(site)
                said = stage.run(site)
            assert said.returncode, f"a damaged {path.name} was used"
            assert path.name in complaint(said.stdout)
        mend(site, stage)
        assert differences(site, intact) == []

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(damaged, sites, ("bit", "cut")))
    number = 2 * n * len(weights)
    record(
        GROUP, "a bit flipped in, or half cut off, each file of the shipped models", number, "refused, the file named"
    )


def test_damaged_checkpoint(sites, stages, intact, trials, record):
    n = trials(0, 20)
    stage = stages["train"]

    def damaged(worker: int) -> int:
        site, refused = sites[worker], 0
        checkpoint = site.results / "training" / "checkpoints" / "generator" / "last.safetensors"
        moment = random.Random(worker)
        for _ in range(worker, n, 2):
            stage.clear(site)
            process = stage.start(site)
            assert when_there(checkpoint.parent, checkpoint.name, process, lambda: None)
            cut_power(process)
            data = checkpoint.read_bytes()
            checkpoint.write_bytes(flipped(data, moment.randrange(len(data) * 8)))
            refused += "training starts afresh" in mend(site, stage).stdout
            assert differences(site, intact) == []
        return refused

    with ThreadPoolExecutor(2) as threads:
        refused = sum(threads.map(damaged, range(2)))
    assert refused == n
    record(GROUP, "a bit flipped in a checkpoint", n, "training says so and starts afresh; same bytes")


@pytest.mark.parametrize("name", TABLES)
def test_flipped_bits_and_the_table_reader(name, finished, trials, record, tmp_path):
    n = trials(20 * (name == "sampling/drawn/job-0000.parquet"), 2000)
    path = next((finished.results / name).parent.glob(f"{Path(name).stem}*.parquet"))
    whole, table = path.read_bytes(), TABLES[name]
    footer = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    moment = random.Random(name)
    places = [moment.randrange(footer * 8) for _ in range(n // 2)]  # half of them in the pages, half in the footer
    places += [moment.randrange(footer * 8, len(whole) * 8) for _ in range(n - n // 2)]
    verdicts = verdicts_of(whole, table, places, tmp_path)
    refused, same = verdicts.count("refused"), verdicts.count("same")
    rest = n - refused - same
    record(
        GROUP,
        f"`{name}`, one bit flipped, the reader alone",
        n,
        f"{refused} refused, {same} read as written, {rest} read otherwise or ended the reader"
        + "; the check sums above catch these" * bool(rest),
    )
    assert not any(
        place < footer * 8 and verdict not in ("refused", "same")
        for place, verdict in zip(places, verdicts, strict=True)
    )


def verdicts_of(whole: bytes, table: tables.Table, places: list[int], folder: Path) -> list[str]:
    """What the reader does with each flipped bit, in processes of their own, since it may end them."""
    path = folder / "flipped.parquet"
    path.write_bytes(whole)
    good, verdicts = tables.read(path, table), []
    while len(verdicts) < len(places):
        out, into = os.pipe()
        if (child := os.fork()) == 0:
            resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for place in places[len(verdicts) :]:
                path.write_bytes(flipped(whole, place))
                try:
                    verdict = b"s" if tables.read(path, table).equals(good) else b"o"
                except ValueError:
                    verdict = b"r"
                except BaseException:
                    verdict = b"o"
                os.write(into, verdict)
            os._exit(0)
        os.close(into)
        with open(out) as file:
            verdicts += [{"s": "same", "r": "refused", "o": "other"}[letter] for letter in file.read()]
        if os.waitpid(child, 0)[1]:
            verdicts.append("crash")
    return verdicts


@pytest.mark.parametrize("name", TABLES)
def test_another_schema(name, finished, trials, record, tmp_path):
    trials(1, 1)
    path = next((finished.results / name).parent.glob(f"{Path(name).stem}*.parquet"))
    data, table, number = pq.read_table(path, partitioning=None), TABLES[name], 0
    for column in data.column_names:
        changed = {
            "missing": data.drop_columns([column]),
            "renamed": data.rename_columns([f"{each}_" if each == column else each for each in data.column_names]),
            "of another type": data.set_column(
                data.column_names.index(column), column, pa.array([b"?"] * len(data), pa.binary())
            ),
        }
        for change in changed.values():
            pq.write_table(change, tmp_path / "changed.parquet")
            with pytest.raises(ValueError, match=f"changed.parquet.*{column}"):
                tables.read(tmp_path / "changed.parquet", table)
            number += 1
    record(GROUP, f"`{name}`, each column missing, renamed, of another type", number, "refused, file and column named")


def test_config_edited_while_snakemake_runs(sites, stages, intact, trials, record):
    n = trials(0, 3)
    site, moment = sites[0], random.Random(0)
    for _ in range(n):
        for rule in ("collect", "filter", "predict", "select_candidates"):
            stages[rule].clear(site)
        process = site.start("screening")
        time.sleep(moment.uniform(2, 6))
        site.overlay("small.yaml", screening={"select": {"n_selected": 30}}, sampling={"n_samples": 2000})
        said, _ = process.communicate()
        assert process.returncode == 0, said
        assert {"draw", "collect", "select_candidates"} <= site.planned()
        site.overlay("small.yaml")
        assert not {"draw", "collect", "filter", "predict", "select_candidates"} & site.planned("screening")
        said = site.run()
        assert said.returncode == 0 and differences(site, intact) == []
    record(
        GROUP,
        "config edited while Snakemake runs",
        n,
        "the run keeps the config that it began with; the next sees the edit",
    )
