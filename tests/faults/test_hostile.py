"""Files made to break what reads them, each refused in bounded time and memory.

A row that is at fault costs that row, a file that is at fault as a whole is refused with one line. Limits: a line of a
table or a structure file 4 MiB, a packed file 128 MiB and beyond that 200 times its size, parsing one structure file
20 s of processor time, a database 10 million rows.
"""

import csv
import gzip
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import boosting
from pipeline.cells import Cell, minimum_distance
from pipeline.composition import Compositions
from pipeline.database import archives, stage
from pipeline.database.records import FREE_UNPACKED, MAX_RECORD
from pipeline.database.sources import read_source
from pipeline.sampling import draw
from pipeline.screening import elemnet
from pipeline.screening.attention import Attention
from pipeline.screening.models import BAND_GAP, DECOMPOSITION_ENERGY, PropertyModel, read_description
from pipeline.screening.reach import Reach
from tests.campaign import OVERLAY, Campaign

GROUP = "Hostile input"
COLUMNS = {"id": "id", "formula": "f"}
MODELS = Path(__file__).resolve().parents[2] / "resources" / "models"
POSCAR = "CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
MEGABYTE = 1 << 20

# Reads the source that stands in argv as JSON, as the stage does, and says what came out and what it took.
CHILD = """
import json, resource, sys, time
import pymatgen.core
from pipeline.database.sources import read_source
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20)
before, began, rows, reasons, error = peak(), time.monotonic(), 0, [], None
try:
    for row in read_source(json.loads(sys.argv[1])):
        rows += 1
        if row.reason is not None and len(reasons) < 10:
            reasons.append(row.reason)
except ValueError as caught:
    error = str(caught)
print(json.dumps(dict(rows=rows, reasons=reasons, error=error, seconds=time.monotonic() - began, mb=peak() - before)))
"""


class Outcome:
    """What reading a hostile source gave, in a process of its own."""

    def __init__(self, root: Path, source: dict, timeout: float = 60) -> None:
        command = [sys.executable, "-c", CHILD, json.dumps(source)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stderr[-2000:]
        self.__dict__.update(json.loads(done.stdout))
        lines = [*self.reasons, *([self.error] if self.error else [])]
        assert all(line.isprintable() and len(line) < 1000 for line in lines), lines

    def said(self, what: str) -> str:
        """For the report: the line, time and memory."""
        return f"{what} in {self.seconds:.1f} s and {max(self.mb, 0)} MB: {(self.error or self.reasons[0])[:160]}"


@pytest.fixture
def outcome(root, tmp_path):
    """`outcome(name, content)`: write a file and read it as a table."""

    def of(name: str, content: bytes) -> Outcome:
        (tmp_path / name).write_bytes(content)
        return Outcome(root, {"kind": "table", "path": str(tmp_path / name), "columns": COLUMNS})

    return of


def rejected(source: dict) -> tuple[list[str], dict[str, str]]:
    """Ids that were read, and {id: reason} of those that were not."""
    rows = list(read_source(source))
    return [row.id for row in rows if row.reason is None], {
        row.id: row.reason for row in rows if row.reason is not None
    }


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_gigabyte_in_one_line(outcome, record):
    """A thousand packed megabytes, each 1 kB: a line that no memory should hold."""
    packed = gzip.compress(b"N" * MEGABYTE)
    for name, head in (("x.csv.gz", b"id,f\nx,"), ("x.jsonl.gz", b'{"id": "x", "f": "')):
        found = outcome(name, gzip.compress(head) + packed * 1024)
        assert "unpacks to more than 200 times its size" in found.error
        assert found.mb < 100 and found.seconds < 20
        record(GROUP, f"a line of 1 GB in a `{name}` of {len(packed) * 1024 // 1000} kB", 1, found.said("refused"))


@pytest.mark.parametrize(
    ("name", "head", "bad", "good"),
    [
        ("x.csv", "id,f\n", "x," + "N" * (10 * MEGABYTE), "y,NaCl"),
        ("x.csv", "id,f\n", "x,NaCl" + "," * (4 * MEGABYTE - 99), "y,NaCl"),
        ("x.jsonl", "", '{"id": "x", "f": "' + "N" * (10 * MEGABYTE) + '"}', '{"id": "y", "f": "NaCl"}'),
        ("x.jsonl", "", '{"id": "x", "f": ' + "[" * 3_000_000, '{"id": "y", "f": "NaCl"}'),
        ("x.jsonl", "", '{"id": "x", "f": [' + "{}," * 1_300_000 + "{}]}", '{"id": "y", "f": "NaCl"}'),
        ("x.jsonl", "", '{"id": "x", "f": ' + "9" * 4_000_000 + "}", '{"id": "y", "f": "NaCl"}'),
    ],
    ids=[
        "10 MB line",
        "4 M fields",
        "10 MB JSON line",
        "3 M levels of JSON",
        "1.3 M objects",
        "a number of 4 M digits",
    ],
)
def test_a_long_line_costs_its_row(outcome, record, request, name, head, bad, good):
    found = outcome(name, f"{head}{bad}\n{good}\n".encode())
    assert found.rows == 2 and len(found.reasons) == 1 and found.error is None
    assert found.mb < 800 and found.seconds < 5
    record(GROUP, f"{request.node.callspec.id} in a `{name[1:]}`", 1, found.said("one row rejected"))


def test_a_quote_that_is_never_closed(outcome, record):
    found = outcome("x.csv", b'id,f\nx,"NaCl\n' + b"y,MgO\n" * 3_000_000)
    assert "a quote in line 2 is not closed" in found.error and found.mb < 100 and found.seconds < 5
    record(GROUP, "a quote never closed in 18 MB of CSV", 1, found.said("refused"))


def test_a_header_of_a_million_columns(outcome):
    found = outcome("x.csv", ",".join(f"c{i}" for i in range(400_000)).encode() + b"\n")
    assert found.error.endswith("Name yours in the source's columns") and "and 399950 more" in found.error


def test_a_parquet_that_unpacks_to_too_much(outcome, record, tmp_path):
    """One text that a million rows share, and one column of gigabytes of zeros."""
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["N" * 10 * MEGABYTE]))
    pq.write_table(pa.table({"id": range(20_000), "f": shared}), tmp_path / "p", compression="zstd")
    found = outcome("x.parquet", (tmp_path / "p").read_bytes())
    assert found.rows == 20_000 and "characters, 200 can be read" in found.reasons[0] and found.mb < 500
    record(GROUP, "a text of 10 MB that 20,000 rows of a Parquet share", 1, found.said("rows rejected"))
    texts = pa.array([str(i % 10) * MEGABYTE for i in range(160)])
    pq.write_table(pa.table({"id": range(160), "f": texts}), tmp_path / "p", compression="zstd", use_dictionary=False)
    found = outcome("x.parquet", (tmp_path / "p").read_bytes())
    assert "unpacks to more than 200 times its size" in found.error and found.mb < 100
    record(GROUP, "a Parquet of 160 MiB of repeated text", 1, found.said("refused"))
    pq.write_table(pa.table({"id": ["x"], "f": [[1, 2]]}), tmp_path / "p")
    assert (
        "column 'f' is list<element: int64>; text or numbers"
        in outcome("x.parquet", (tmp_path / "p").read_bytes()).error
    )


def test_more_rows_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MAX_ROWS", 3)
    (tmp_path / "x.csv").write_text("f\nNaCl\nXx\nMgO\nKBr\n")
    source = {"name": "x", "kind": "table", "path": str(tmp_path / "x.csv"), "columns": {"formula": "f"}}
    paths = {"rows_path": tmp_path / "rows", "rejects_path": tmp_path / "rejects"}
    with pytest.raises(ValueError, match=r"'x' holds more than 3 rows; take a part"):
        stage.read_rows(source=source, max_rejected_share=1.0, **paths)


HOSTILE_IDS = {
    "line break": "a\nb",
    "terminal escape": "a\x1b[2J\x1b[31mb",
    "NUL": "a\x00b",
    "bidirectional override": "mp-\u202e1",
    "zero-width space": "mp\u200b-1",
    "bell": "\x07\x07b",
}


def test_control_characters_in_ids(tmp_path, record):
    texts = [*HOSTILE_IDS.values(), "mp/1", "../../up", "=cmd()", "naïve-α"]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"id": text, "f": "NaCl"}) + "\n" for text in texts))
    rows = list(read_source({"kind": "table", "path": str(tmp_path / "x.jsonl"), "columns": COLUMNS}))
    good = [row.id for row in rows if row.reason is None]
    assert good == ["mp/1", "../../up", "=cmd()", "naïve-α"]
    for row in rows[: len(HOSTILE_IDS)]:
        assert "column 'id' holds characters that cannot be printed: " in row.reason
        assert row.reason.isprintable() and row.id.isprintable()
    record(GROUP, f"ids with {', '.join(HOSTILE_IDS)}", len(HOSTILE_IDS), f"rows rejected: {rows[0].reason}")


@pytest.mark.parametrize(
    "text", ["Na\x1b[31mCl", "../NaCl", "NaCl; rm -rf /", "$(reboot)", "`id`", "=cmd()", "Na\nCl", "\u202eNaCl"]
)
def test_a_formula_holds_elements_and_numbers_only(tmp_path, text):
    for name, content in (("x.jsonl", json.dumps({"id": "x", "f": text})), ("x.csv", f'id,f\nx,"{text}"\n')):
        (tmp_path / name).write_text(content)
        _, reasons = rejected({"kind": "table", "path": str(tmp_path / name), "columns": COLUMNS})
        assert "cannot be read at" in reasons["x"] and reasons["x"].isprintable()


# Archives and folders -------------------------------------------------------------------------------------------------


def structures(path: Path) -> dict:
    return {"kind": "structures", "path": str(path)}


def test_zip_bombs(root, tmp_path, trials, record):
    megabytes = trials(100, 2048)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.vasp", POSCAR)
        with archive.open("bomb.cif", "w", force_zip64=True) as member:
            for _ in range(megabytes):
                member.write(bytes(MEGABYTE))
    found = Outcome(root, structures(path))
    assert found.rows == 2 and found.reasons == [f"more than {MAX_RECORD} bytes, no structure file is as large"]
    assert found.mb < 150 and found.seconds < 5
    record(
        GROUP,
        f"a member of {megabytes} MiB in a zip of {path.stat().st_size // 1000} kB",
        1,
        found.said("one row rejected"),
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(FREE_UNPACKED // MAX_RECORD + 2):
            archive.writestr(f"{i}.cif", bytes(MAX_RECORD))
    found = Outcome(root, structures(path))
    assert "unpacks to more than 200 times its size" in found.error
    record(GROUP, "a zip of many files of zeros", 1, found.said("refused"))


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_tar_bombs(root, tmp_path, record, suffix):
    path = tmp_path / f"bomb.tar.{suffix}"
    with tarfile.open(path, f"w:{suffix}") as archive:
        info = tarfile.TarInfo("bomb.cif")
        info.size = 140 * MEGABYTE
        with open("/dev/zero", "rb") as zeros:
            archive.addfile(info, zeros)
    found = Outcome(root, structures(path))
    assert "unpacks to more than 200 times its size" in found.error and found.mb < 200 and found.seconds < 20
    record(GROUP, f"147 MB of zeros in a `.tar.{suffix}` of {path.stat().st_size // 1000} kB", 1, found.said("refused"))


def test_names_that_climb_links_and_devices_in_archives(tmp_path, record):
    names = ["../../evil.vasp", "/etc/evil.vasp", "a/b.vasp"]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(POSCAR)
            archive.addfile(info, io.BytesIO(POSCAR.encode()))
        for name, kind in (
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("tty", tarfile.CHRTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, POSCAR)
    before = sorted(tmp_path.parent.rglob("*"))
    good, reasons = rejected(structures(tmp_path / "x.tar"))
    assert sorted(good) == sorted(names) and reasons.keys() == {"link", "hard", "tty", "pipe"}
    assert set(reasons.values()) == {archives._NO_FILE}
    assert sorted(rejected(structures(tmp_path / "x.zip"))[0]) == sorted(names)
    assert sorted(tmp_path.parent.rglob("*")) == before and not Path("/etc/evil.vasp").exists()
    record(
        GROUP,
        "`../` and `/` in names, links, devices, pipes in archives",
        7,
        "nothing is unpacked to disk; what is no file is a rejected row",
    )


def test_encrypted_and_nested_archives(root, tmp_path, record):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x.vasp", POSCAR)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
        archive.writestr("x.vasp", POSCAR)
    good, reasons = rejected(structures(tmp_path / "x.zip"))
    assert good == ["x.vasp"] and "cannot be read as poscar" in reasons["inner.zip"]
    content = bytearray(inner.getvalue())  # bit 0 of the flags says encrypted, in both headers
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    found = Outcome(root, structures(tmp_path / "locked.zip"))
    assert "cannot be unpacked" in found.error and "encrypted" in found.error
    record(GROUP, "an encrypted zip", 1, found.said("refused"))


def test_a_folder_of_loops_pipes_devices_and_unreadable_files(root, tmp_path, record):
    folder = tmp_path / "cells"
    (folder / "deep").mkdir(parents=True)
    (folder / "good.vasp").write_text(POSCAR)
    (folder / "linked.vasp").symlink_to("good.vasp")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.cif")
    expected = {"deep/up", "self", "zero", "pipe.cif"}
    if sys.platform == "linux":
        (folder / "memory").symlink_to("/proc/self/mem")  # a regular file that nobody can read from its start
        expected |= {"memory"}
    (folder / "huge.cif").touch()
    os.truncate(folder / "huge.cif", 1 << 34)
    began = time.monotonic()
    good, reasons = rejected(structures(folder))
    assert time.monotonic() - began < 10
    assert good == ["good.vasp", "linked.vasp"]
    assert reasons.keys() == expected | {"huge.cif"}
    assert "no structure file is as large" in reasons["huge.cif"]
    record(GROUP, "loops of links, a pipe, a device, a file of 16 GB in a folder", len(reasons), "each a rejected row")


# Structure files ------------------------------------------------------------------------------------------------------

HEAD = (
    "data_x\n_cell_length_a 50\n_cell_length_b 50\n_cell_length_c 50\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\nloop_\n_symmetry_equiv_pos_as_xyz\n"
)
ATOMS = "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"


def crawling_cif() -> str:
    """4,000 symmetry operations by 300 sites, no two images on one place: minutes to hours if they were applied."""
    operations = "".join(f"'x+{i / 4000:.5f},y+{i * i % 3989 / 3989:.5f},z'\n" for i in range(4000))
    return (
        HEAD
        + operations
        + ATOMS
        + "".join(f"O{i} O 0.{i:03d} 0.{i * 7 % 997:03d} 0.{i * 13 % 991:03d}\n" for i in range(300))
    )


def test_a_cif_of_too_many_operations(tmp_path, record):
    (tmp_path / "a.cif").write_text(crawling_cif())
    (tmp_path / "b.vasp").write_text(POSCAR)
    began = time.monotonic()
    good, reasons = rejected(structures(tmp_path))
    took = time.monotonic() - began
    expected = "cannot be read as cif: 4000 symmetry operations, at most 384 make a space group"
    assert good == ["b.vasp"] and reasons == {"a.cif": expected} and took < 20
    record(GROUP, "a CIF of 4,000 symmetry operations by 300 sites", 1, f"one row rejected: {reasons['a.cif']}")


def test_a_cif_that_takes_too_long(tmp_path, record, monkeypatch):
    """Inside one call of the C++ library, where no Python handler of a signal would run."""
    monkeypatch.setattr(archives, "MAX_PARSE_SECONDS", 0.05)
    (tmp_path / "a.cif").write_text("data_x\nloop_\n_a\n" + "'x' " * 900_000)
    (tmp_path / "b.cif").write_text(HEAD + "x,y,z\n" + ATOMS + "O1 O 0 0 0\n")
    good, reasons = rejected(structures(tmp_path))
    assert good == ["b.cif"] and reasons == {"a.cif": "cannot be read as cif within 0.05 s"}
    record(GROUP, "a CIF that takes longer than its limit (here 0.05 s)", 1, f"one row rejected: {reasons['a.cif']}")


def test_no_signal_is_left_behind_by_the_time_limit(tmp_path):
    import signal

    (tmp_path / "a.vasp").write_text(POSCAR)
    before = signal.getsignal(signal.SIGPROF)
    rejected(structures(tmp_path))
    assert signal.getsignal(signal.SIGPROF) is before and signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_poscars_of_a_billion_atoms(root, tmp_path, record):
    counts = [
        "1 1000000000",
        "1 +1000000000",
        "1 1_000_000_000",
        "1 " + "9" * 4000,
        "1 -5",
        "1 " * 1_000_000,
        "99999999999 1",
    ]
    for i, text in enumerate(counts):
        for j, head in enumerate(("", "\n\n\n\n", "\n")):
            (tmp_path / f"{i}{j}.vasp").write_text(head + POSCAR.replace("\n1 1\n", f"\n{text}\n"))
    found = Outcome(root, structures(tmp_path))
    assert found.rows == 21 and len(found.reasons) == 10 and found.mb < 500 and found.seconds < 20
    record(GROUP, "a POSCAR of a billion atoms", found.rows, found.said("rows rejected"))


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("50", "50" * 200) + "x,y,z\n" + ATOMS + "O1 O 0 0 0\n",
        HEAD + "__import__('os').system('touch_pwned')\n" + ATOMS + "O1 O 0 0 0\n",
        HEAD + "x**9**9**9,y,z\n" + ATOMS + "O1 O 0 0 0\n",
        HEAD + "1/0*x,y,z\n" + ATOMS + "O1 O 0 0 0\n",
        HEAD + "x,y,z\n" + ATOMS + "O1 O nan 0 0\n",
        HEAD + "x,y,z\n" + ATOMS + "O1 O inf 0 0\n",
        HEAD + "x,y,z\n" + ATOMS + "O1 " + "O" * 100_000 + " 0 0 0\n",
        "data_x\n" + "loop_\n_a\n" * 200_000,
        "data_x\n" + "_a 'b'c" * 400_000,
        "data_x\n" + ";\n" * 1_000_000,
        "data_x\n" + " \n" * 50_000,
        "data_\n" * 300_000,
        "data_x\n" + "loop_\n_a\n" + "'x' " * 900_000,
        "data_x\n" + "#" * 4_000_000,
    ],
    ids=[
        *("long lengths", "code", "powers", "a division by zero", "nan", "infinity", "a long symbol", "empty loops"),
        *("broken quotes", "semicolons", "blank lines", "empty blocks", "a column without end", "comments"),
    ],
)
def test_cifs_of_other_tricks(tmp_path, text, monkeypatch):
    monkeypatch.setattr(archives, "MAX_PARSE_SECONDS", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.cif").write_text(text)
    began = time.monotonic()
    rejected(structures(tmp_path / "in"))
    assert time.monotonic() - began < 10
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("skew", [1, 10, 1000, 20_000])
def test_a_skewed_cell_takes_no_longer(skew):
    """Another choice of lattice vectors for caesium chloride: the same crystal, the same distance."""
    vectors = np.array([[1, 0, 0], [skew, 1, 0], [3, skew // 3, 1]])
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) @ np.linalg.inv(vectors)
    cell = Cell(vectors @ (4.0 * np.eye(3)), np.array([55, 17], np.uint8), sites)
    began = time.monotonic()
    assert minimum_distance(cell) == pytest.approx(4 * np.sqrt(3) / 2, abs=1e-6)
    assert time.monotonic() - began < 1


# Models ---------------------------------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def payloads(planted: Path) -> dict[str, bytes]:
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": Payload(planted)}, buffer)
    return {"pickle": pickle.dumps(Payload(planted)), "torch.save": buffer.getvalue()}


def draw_blocks(path: Path) -> None:
    paths = dict.fromkeys(("vocabulary_path", "drawn_path", "counts_path"), path.with_name("none"))
    numbers = dict.fromkeys(("n_samples", "block_size", "partitions", "jobs", "seed"), 1)
    draw(generator_path=path, **paths, **numbers, job=0, device="cpu")


READERS = {
    "weights.safetensors": lambda path: elemnet.ElemNet.load(path, list(range(1, 87))),
    "attention.safetensors": lambda path: Attention.load(path, list(range(1, 87))),
    "reach.safetensors": lambda path: Reach.load(path.parent, 132),
    "interval.txt.gz": boosting.load,
    "model.json": lambda path: read_description(path.parent, BAND_GAP),
    "generator.safetensors": draw_blocks,
}


def test_a_planted_pickle_is_never_loaded(tmp_path, record):
    """The payload works when it is unpickled, and every reader of weights refuses it unread."""
    planted = tmp_path / "planted"
    pickle.loads(pickle.dumps(Payload(planted))).close()
    assert planted.exists()
    planted.unlink()
    tried = 0
    for content in payloads(planted).values():
        head = len(content).to_bytes(8, "little")  # as a safetensors that gives the pickle for its header, and as it is
        for packed in (content, head + content, gzip.compress(content)):
            for name, load in READERS.items():
                (tmp_path / name).write_bytes(packed)
                with pytest.raises(ValueError, match=re.escape(name)) as error:
                    load(tmp_path / name)
                assert len(str(error.value).splitlines()) == 1
                tried += 1
    assert not planted.exists()
    record(
        GROUP,
        "a pickle with a payload in place of a model's file",
        tried,
        "each refused by one line, the payload never ran",
    )


def scores(folder: Path, model: str) -> None:
    compositions = Compositions.from_formulas(["NaCl"])
    target = BAND_GAP if model == "band_gap_mp" else DECOMPOSITION_ENERGY
    PropertyModel.load(folder, target).predict(compositions, np.zeros((1, 132)), threads=1)


@pytest.mark.parametrize(
    ("model", "change", "reason"),
    [
        ("band_gap_mp", {"target": "__import__('os')"}, "this model predicts"),
        ("band_gap_mp", {"elements": "/etc/passwd"}, "'elements' is no list of element symbols"),
        ("band_gap_mp", {"elements": ["Na", "../Cl"]}, "'elements' is no list of element symbols"),
        ("band_gap_mp", {"elements": ["Na", "Na"]}, "'elements' names one of them twice"),
        ("band_gap_mp", {"learners": {"regressor": ["os"], "classifier": ["sys"]}}, "'learners' names others than"),
        ("band_gap_mp", {"residual_quantiles": ["0"] * 201}, "'residual_quantiles' is no list of 201 numbers"),
        ("band_gap_mp", {"interval_factors": [1.0]}, "'interval_factors' is no number for each group"),
        ("decomposition_energy_mp", {"interval_factors": None}, "'interval_factors' is no number for each group"),
        ("decomposition_energy_mp", {"analogues": True}, r"known\.parquet: no such file"),
    ],
)
def test_a_description_that_no_model_has_is_refused(tmp_path, model, change, reason):
    folder = shutil.copytree(MODELS / model, tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | change))
    with pytest.raises(ValueError, match=reason):
        scores(folder, model)
    (folder / "model.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"model\.json"):
        scores(folder, model)


def test_a_description_names_no_files(tmp_path):
    """Whatever `model.json` says of files and paths, the folder's own are read."""
    folder = shutil.copytree(MODELS / "band_gap_mp", tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    names = {"weights": "/etc/passwd", "files": ["../../x"], "classifier": "/dev/zero", "module": "os"}
    (folder / "model.json").write_text(json.dumps(description | names))
    scores(folder, "band_gap_mp")


TREES = {
    "a split by a feature that is none": (r"split_feature=\d+", "split_feature=100000000"),
    "a child that is none": (r"left_child=-?\d+", "left_child=1000000"),
    "a leaf that is none": (r"left_child=-?\d+", "left_child=-1000000"),
    "a loop": (r"left_child=-?\d+", "left_child=0"),
    "a billion leaves": (r"num_leaves=\d+", "num_leaves=1000000000"),
    "a number too few": (r"leaf_value=\S+ ", "leaf_value="),
    "a leaf of nan": (r"leaf_value=\S+", "leaf_value=nan"),
    "a letter for a number": (r"shrinkage=\S+", "shrinkage=abc"),
    "categories": (r"decision_type=\d+", "decision_type=1"),
    "categories without their table": (r"num_cat=0", "num_cat=5"),
    "linear leaves": (r"is_linear=0", "is_linear=1"),
    "a million classes": (r"num_class=1", "num_class=1000000"),
    "another count of features": (r"max_feature_idx=\d+", "max_feature_idx=3"),
    "no tree": (r"(?s)Tree=0.*", ""),
    "an unknown loss": (r"objective=\S+", "objective=foo"),
    "a form feed before a number": (r"leaf_value=", "leaf_value=\x0c"),
    "an underscore in a number": (r"threshold=(\d)", r"threshold=\g<1>_0"),
    "garbage": (r"(?s).*", "tree\\n" + "garbage" * 99),
}


def test_trees_that_are_none(tmp_path, record):
    """Half of these make LightGBM abort or hang the process that hands them over."""
    whole = gzip.decompress((MODELS / "decomposition_energy_mp" / "interval.txt.gz").read_bytes()).decode()
    for old, new in TREES.values():
        text = re.sub(old, new, whole, count=1)
        size = int(re.search(r"tree_sizes=(\d+)", whole)[1]) + len(text) - len(whole)  # of the first tree, made right
        for version in (text, re.sub(r"tree_sizes=\d+", f"tree_sizes={size}", text, count=1)):
            (tmp_path / "x.txt.gz").write_bytes(gzip.compress(version.encode()))
            with pytest.raises(ValueError, match=r"x\.txt\.gz: no gzipped LightGBM model \(.+\)") as error:
                boosting.load(tmp_path / "x.txt.gz")
            assert str(error.value).isprintable()
    record(GROUP, "LightGBM text that is no model", len(TREES), f"refused before LightGBM sees it: {', '.join(TREES)}")


def test_what_follows_the_trees_is_left_aside(tmp_path):
    """LightGBM crashes over a line break in the name of a parameter."""
    whole = gzip.decompress((MODELS / "decomposition_energy_mp" / "interval.txt.gz").read_bytes()).decode()
    features_NF = np.random.default_rng(0).normal(size=(50, 134))
    values = []
    for text in (
        whole,
        whole.replace("[drop_seed", "[dro\np_seed"),
        whole[: whole.index("end of trees")] + "end of trees\n",
    ):
        (tmp_path / "x.txt.gz").write_bytes(gzip.compress(text.encode()))
        values.append(boosting.predict(boosting.load(tmp_path / "x.txt.gz"), features_NF, 1))
    assert (values[0] == values[1]).all() and (values[0] == values[2]).all()
    assert (values[0] == lightgbm.Booster(model_str=whole).predict(features_NF)).all()
    with pytest.raises(ValueError, match="a LightGBM model of 134 features was given 133"):
        boosting.predict(boosting.load(tmp_path / "x.txt.gz"), features_NF[:, 1:], 1)


def test_a_bomb_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(boosting, "MAX_MODEL_BYTES", MEGABYTE)
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(bytes(MEGABYTE)) * 100)
    with pytest.raises(ValueError, match="unpacks to more than 1048576 bytes"):
        boosting.load(tmp_path / "x.txt.gz")


# Through all stages ---------------------------------------------------------------------------------------------------

SHELL = [
    "../../",
    "/etc/",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "| touch pwned",
    "' ; touch pwned ; '",
]
LIVE = ["=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "＝1+1", "<script>alert(1)</script>", "{x}", "%s", '"', "a,b"]


def test_ids_through_all_stages_up_to_the_report(root, tmp_path, trials, record):
    """Ids that a shell, a path, a spreadsheet or a browser would act on, of entries and of the templates' crystals."""
    trials(0, 1)
    campaign = Campaign.new(root, tmp_path)
    with open(tmp_path / "small.csv", newline="") as handle:
        formulas = [row["formula"] for row in csv.DictReader(handle)]
    texts = [*SHELL, *LIVE]
    ids = [f"{texts[i % len(texts)]}{i}" for i in range(len(formulas))]
    perovskite = {
        "cell": [4, 4, 4, 90, 90, 90],
        "frac": [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    }
    crystals = []
    for i, (a, b) in enumerate((a, b) for a in ("Ca", "Sr", "Ba", "K", "La") for b in ("Ti", "Zr", "Nb", "Al")):
        crystals.append({"id": f"{texts[i % len(texts)]} crystal {i}", "el": [a, b, "O", "O", "O"], **perovskite})
    with open(tmp_path / "small.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "formula"])
        writer.writerows(zip(ids, formulas, strict=True))
        writer.writerows((crystal["id"], f"{crystal['el'][0]}{crystal['el'][1]}O3") for crystal in crystals)
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(crystal) + "\n" for crystal in crystals))
    overlay = campaign.overlay(
        "hostile.yaml",
        database={"sources": [OVERLAY["database"]["sources"][0] | {"structures": "cells.jsonl"}]},
        structures={
            "templates": {"sources": ["database"]},
            "build": {"n_candidates": 20, "min_template_probability": 0.0},
            "relax": {"potential": "none"},
            "hull": {"source": "database"},
        },
    )
    outside = set(tmp_path.parent.iterdir())
    said = campaign.run(overlay=overlay)
    assert said.returncode == 0, said.stdout[-5000:]
    assert not list(tmp_path.rglob("pwned*")) and set(tmp_path.parent.iterdir()) == outside
    export = campaign.results / "export"
    with open(export / "manifest.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    hostile = [row["template_label"] for row in rows if any(text in row["template_label"] for text in texts)]
    assert rows and hostile, "no hostile id came as far as the manifest"
    live = [field for row in rows for field in row.values() if field.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]
    assert all(re.fullmatch(r"-\d+(\.\d+)?(e-?\d+)?", field) for field in live) and live
    assert all(re.fullmatch(r"POSCAR-[A-Za-z0-9-]+\.vasp", path.name) for path in (export / "POSCAR").iterdir())
    report = (campaign.results / "report" / "report.html").read_text()
    assert "<script>alert(1)" not in report
    record(
        GROUP,
        "ids that a shell, a path, a spreadsheet or a browser would act on, through all stages",
        len(ids),
        f"no file but the campaign's own, {len(rows)} rows in the manifest, {len(hostile)} of them with such an id, "
        "no field that a spreadsheet runs; negative numbers stay numbers",
    )
