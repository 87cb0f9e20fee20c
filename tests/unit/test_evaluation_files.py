"""What the evaluation makes of files as people have them, and what it says of those that it cannot read."""

import gzip
import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.composition import Compositions
from pipeline.evaluation import __main__ as command
from pipeline.evaluation.evaluate import Known
from pipeline.evaluation.read import read_set

FRAME = '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\n{} 0 0 0\nCl 2 2 2\n'
SALT = FRAME.format("Na")


def read(path: Path) -> tuple[dict[str, int], dict]:
    drawn, left_out = read_set(path, "formula")
    return dict(zip(drawn.formulas.formulas().to_pylist(), drawn.n_drawn.tolist(), strict=True)), left_out


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.CSV", "formula\nNaCl\n"),
        ("a.csv.gz", "formula\nNaCl\n"),
        ("a.b.JSONL", '{"formula": "NaCl"}\n'),
        ("a.ndjson", '{"formula": "NaCl"}\n'),
        ("a.json", '[{"formula": "NaCl"}]'),
        ("a.extxyz", SALT),
        ("a.XYZ", f"\n{SALT}\n\n"),
        ("a.extxyz.gz", SALT),
        ("crlf.extxyz", SALT.replace("\n", "\r\n")),
        ("vectors.xyz", f"{SALT}VEC1 5 0 0\nVEC2 0 5 0\n1\n\nFe 0 0 0\n"),
    ],
)
def test_kinds_of_files(name, text, tmp_path):
    assert read(write(tmp_path / name, text))[0] == {"NaCl": 1}


def test_parquet_by_any_case(tmp_path):
    pq.write_table(pa.table({"formula": ["NaCl", "NaCl"]}), tmp_path / "a.PARQUET")
    assert read(tmp_path / "a.PARQUET")[0] == {"NaCl": 2}


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a", "a.cif", "a.xlsx"])
def test_an_unknown_kind_is_told_what_can_be_read(name, tmp_path):
    with pytest.raises(ValueError) as error:
        read(write(tmp_path / name, "formula\nNaCl\n"))
    for kind in (
        name,
        ".csv",
        ".jsonl",
        ".parquet",
        "column of formulas",
        ".zip",
        "CIF and POSCAR",
        ".extxyz",
        "samples",
    ):
        assert kind in str(error.value)


def test_a_zip_cut_short(tmp_path):
    with pytest.raises(ValueError, match=r"a\.zip: no whole zip archive"):
        read(write(tmp_path / "a.zip", "PK"))


def test_a_missing_column_is_named_on_the_command_line(tmp_path):
    with pytest.raises(ValueError, match=r"no column \['formula'\]; the file has \['x'\]\. Name yours by --form"):
        read(write(tmp_path / "a.csv", "x\nNaCl\n"))


def test_what_holds_nothing_says_so(tmp_path):
    for name, text, what in (("a.csv", "formula\n", "rows"), ("a.json", "[]", "rows"), ("a.extxyz", "", "structures")):
        with pytest.raises(ValueError, match=rf"{name}: holds no {what}$"):
            read(write(tmp_path / name, text))
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w"), tarfile.open(tmp_path / "a.tar", "w"):
        pass
    for name in ("folder", "a.zip", "a.tar"):
        with pytest.raises(ValueError, match=rf"{name}: holds no structures$"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FRAME.format("Qq"), "unknown element or property 'Qq'"),
        (FRAME.format("X"), "an atom of no element"),
        (SALT.replace("Na 0", "Na zero"), "could not convert string to float: 'zero'"),
        (SALT.replace("Na 0 0 0", "Na 0"), ""),
        (SALT.replace("pos:R:3", "pos:Q:3"), ""),
        ("0\n\n", "no atoms"),
    ],
)
def test_a_bad_frame_costs_itself(bad, reason, tmp_path):
    salts, left_out = read(write(tmp_path / "a.extxyz", 3 * SALT + bad + 2 * SALT))
    assert salts == {"NaCl": 5} and (left_out["rows"], left_out["unreadable"]) == (6, 1)
    assert left_out["first_unreadable"].startswith(f"a.extxyz frame 4 (line 13): {reason}")


def test_a_damaged_frame_is_named(tmp_path):
    path = write(tmp_path / "a.extxyz", 1200 * SALT + SALT.removesuffix("Cl 2 2 2\n") + 3 * SALT)
    with pytest.raises(ValueError, match=r"a\.extxyz: line 4805: 'Lattice=.* number of atoms of frame 1202 belongs"):
        read(path)
    salts, left_out = read(write(path, 30 * SALT + SALT.removesuffix("Cl 2 2 2\n")))
    assert salts == {"NaCl": 30}
    assert left_out["first_unreadable"] == "a.extxyz frame 31 (line 121): the file ends within it"
    salts, left_out = read(write(path, 30 * SALT + f"{10**30}\n\n" + SALT))
    assert salts == {"NaCl": 30} and left_out["unreadable"] == 1
    (tmp_path / "b.xyz.gz").write_bytes(gzip.compress(30 * SALT.encode())[:-9])
    with pytest.raises(ValueError, match=r"b\.xyz\.gz: the file is damaged or cut short after \d+ structures"):
        read(tmp_path / "b.xyz.gz")


def test_a_frame_may_be_too_long_to_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.database.records.MAX_RECORD", 200)
    long = "9\n\n" + "Na 0.000000000000000 0.000000000000000 0.0000000000000\n" * 9
    salts, left_out = read(write(tmp_path / "a.extxyz", SALT + long + SALT))
    assert salts == {"NaCl": 2} and left_out["first_unreadable"].endswith("(line 5): more than 200 characters")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command on a campaign whose figures cost nothing: what it hands to the page, and what it says."""
    for path in ("database/entries.parquet", "encoding/split.parquet"):
        (tmp_path / "campaign" / path).parent.mkdir(parents=True)
        (tmp_path / "campaign" / path).touch()
    written = {}

    def keep(figures, page, numbers, about):
        written.update(figures=figures, page=Path(page), about=about)
        json.dumps([figures, about], ensure_ascii=False).encode()

    known = Known(Compositions.from_formulas(["NaCl", "MgO"]), {})
    monkeypatch.setattr(command, "read_known", lambda *_: known)
    monkeypatch.setattr(command, "evaluate", lambda drawn, *_: {"draws": int(drawn.n_drawn.sum())})
    monkeypatch.setattr(command, "write_figures", keep)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluation", "--campaign", "campaign", *map(str, arguments)])
        command.main()
        return written

    return run


def test_a_file_that_is_named_like_a_baseline(run, tmp_path):
    (tmp_path / "random").mkdir()
    structure = "cell\n1.0\n5 0 0\n0 5 0\n0 0 5\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
    (tmp_path / "random" / "POSCAR").write_text(structure)
    written = run("random")
    assert list(written["figures"]) == ["generated", *command.BASELINES]
    assert written["figures"]["generated"]["left_out"]["rows"] == 1
    assert written["about"]["set"] == "random" and written["page"].parent == tmp_path / "random.evaluation"


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["--baselines", "ngram,random", "a.csv"], ["ngram", "random"]),
        (["a.csv", "--baselines", "ngram"], ["ngram"]),
        (["--baselines", "none", "a.csv"], []),
    ],
)
def test_baselines_are_chosen(run, tmp_path, arguments, chosen):
    write(tmp_path / "a.csv", "formula\nNaCl\n")
    assert list(run(*arguments)["figures"]) == ["generated", *chosen]


def test_no_such_baseline(run, capsys):
    with pytest.raises(SystemExit):
        run("a.csv", "--baselines", "trigram")
    assert "no baseline 'trigram'; write some of random," in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\u202egpj.csv", os.fsdecode(b"a\xff.csv"), "a\n.csv"])
def test_names_of_files_are_shown_as_they_are(run, name, tmp_path, capsys):
    write(tmp_path / name, "formula\nNaCl\nNaCl\nNaCl\nXx\n")
    written = run("--baselines", "none", name)
    assert all(text.isprintable() for text in written["about"].values())
    assert written["figures"]["generated"]["left_out"]["first_unreadable"].isprintable()
    captured = capsys.readouterr()
    assert all(line.isprintable() for line in captured.out.splitlines()) and "\u202e" not in captured.err
    assert written["page"].parent.is_dir()


def test_the_folder_that_one_is_in(run, tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    write(tmp_path / "cells" / "POSCAR", "cell\n1.0\n5 0 0\n0 5 0\n0 0 5\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n")
    monkeypatch.chdir(tmp_path / "cells")
    written = run("--campaign", "../campaign", "--baselines", "none", ".")
    assert written["about"]["set"] == "cells" and written["page"].parent == tmp_path / "cells.evaluation"


def test_the_campaign_is_looked_for_before_the_file_is_read(run, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "campaign" / "encoding")
    with pytest.raises(SystemExit, match=r"^kimberlite: campaign/encoding/split\.parquet: no such file; run `snake"):
        run("nowhere.csv")


def test_too_few_formulas_name_the_file(run, tmp_path, monkeypatch):
    def refuse(*_):
        raise ValueError("1 formulas are too few")

    monkeypatch.setattr(command, "evaluate", refuse)
    write(tmp_path / "a.csv", "formula\nNaCl\n")
    with pytest.raises(SystemExit, match=r"^kimberlite: a\.csv: 1 formulas are too few$"):
        run("a.csv")
