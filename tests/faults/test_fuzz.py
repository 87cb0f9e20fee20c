"""Random and damaged input for everything that reads: formulas, the config, tables, structures, weights.

Each input comes from a seeded generator and is either read or refused by one line: a `ValueError`, or a row with a
reason. Any other exception fails the test, and so does an input that takes more than 30 seconds.
"""

import contextlib
import copy
import gzip
import io
import json
import random
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from pipeline import tables
from pipeline.composition import MAX_COUNT, SYMBOLS, parse_formula
from pipeline.configuration import check
from pipeline.database.sources import read_source
from pipeline.generators.checkpoints import FILE, Progress
from pipeline.screening import elemnet
from tests.conftest import ROOT

GROUP = "Fuzzing"
SECONDS = 30
RECORDS = [
    {"id": f"mp-{i}", "f": formula, "e": -0.25 * i}
    for i, formula in enumerate(["NaCl", "Li3Fe2(PO4)3", "BaTiO3", "Ca10(PO4)6(OH)2", "Fe", "K3[Fe(CN)6]"])
]
COLUMNS = {
    "id": "id",
    "formula": "f",
    "formation_energy_ev_per_atom": {"column": "e", "unit": "eV/atom"},
}
CIF = (
    "data_x\n_cell_length_a 4\n_cell_length_b 4.1\n_cell_length_c 4.2(1)\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n"
    "'-x,-y,-z'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    "_atom_site_occupancy\nCs1 Cs 0 0 0 1\nCl1 Cl1- 0.5 0.5 0.5 1\n"
)
POSCAR = "CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nO Ti\n2 1\ndirect\n0 0 0\n0.5 0.5 0.5\n0.5 0 0.5\n"
TOKENS = [
    *(b"\x00", b"\n", b"\r", b'"', b"'", b",", b"(", b")", b"[", b"{", b"}", b":", b";", b"#", b"_", b"loop_\n"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\x1b[31m", b"\xed\xa0\x80", b"nan", b"inf", b"-1", b"1e999", b"0"),
    *(b"9" * 30, b"-" * 9, b"65536", b"2147483648", b"1e-300", b"null", b"true", b"=cmd()", b"../", b"?", b"."),
    *(b"[" * 3000, b"_atom_site_", b"x+1/0", b"0/0", b"1_000_000", b"\xd9\xa3", b"(" * 60, b'{"a":'),
]


def damaged(rng: random.Random, whole: bytes) -> bytes:
    """The bytes with one to four flips, cuts, repeats and insertions."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 8, 40))
        match rng.randrange(6):
            case 0 | 1 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = rng.choice(TOKENS)
            case 4:
                data[place : place + length] = rng.choice(TOKENS)
            case _:
                data = data[:place] if rng.random() < 0.2 else data[:place] + data[max(0, place - length) :]
    return bytes(data)


@contextlib.contextmanager
def within_time() -> Iterator[None]:
    def stop(*_) -> None:
        raise BaseException(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusal(read: Callable[[], object]) -> tuple[object, bool]:
    """(what came out, False), or (None, True) where a ValueError of one printable line did."""
    try:
        with within_time():
            return read(), False
    except ValueError as error:
        line = str(error)
        assert line and len(line.splitlines()) == 1 and len(line) < 3000, repr(line)
        return None, True


def tally(inputs: int, refused: int, more: str = "") -> str:
    return f"{inputs:,} inputs: {refused:,} refused by one line, {inputs - refused:,} read{more}; nothing else came out"


def test_formulas(trials, record):
    rng = random.Random(1)
    pieces = [
        *SYMBOLS,
        "D",
        "Xx",
        *"()[]{}.0123456789 ",
        "65535",
        "0.5",
        "2.0",
        "·",
        "²",
        "٣",
        "\x00",
        "\n",
        "\ud800",
        "+",
    ]
    n, refused = trials(20_000, 850_000), 0
    with within_time() if n < 50_000 else contextlib.nullcontext():
        for _ in range(n):
            text = "".join(rng.choices(pieces, k=rng.choice((1, 3, 6, 12, 60, 250))))
            try:
                found = parse_formula(text)
            except ValueError as error:
                refused += 1
                assert str(error).isprintable()
            else:
                assert found and all(1 <= z <= 118 and 1 <= count <= MAX_COUNT for z, count in found.items())
    record(GROUP, "random formulas", n, tally(n, refused))


def test_config(trials, record):
    rng = random.Random(2)
    default = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    overlay = yaml.safe_load((ROOT / "config" / "mp.yaml").read_text())
    schema = ROOT / "workflow" / "schemas" / "config.schema.json"
    values = [
        None,
        True,
        -1,
        0,
        0.5,
        1e999,
        float("nan"),
        10**30,
        "",
        "x\ny",
        "\x1b[31m",
        "../up",
        [],
        [None],
        {},
        {"a": 1},
        1.0,
    ]
    n, refused = trials(150, 20_000), 0
    for _ in range(n):
        config = copy.deepcopy(default)
        if rng.random() < 0.5:
            config["database"] = config["database"] | copy.deepcopy(overlay["database"])
        for _ in range(rng.choice((1, 1, 3))):
            section = config
            while section:
                key = rng.choice(list(section))
                if not (isinstance(section[key], dict) and section[key]) or rng.random() < 0.2:
                    break
                section = section[key]
            match rng.randrange(4):
                case 0:
                    del section[key]
                case 1:
                    section[rng.choice(["", "x\ny", f"{key}s", str(key).upper(), "=cmd()", 7, None])] = rng.choice(
                        values
                    )
                case _:
                    section[key] = rng.choice(values)
        refused += refusal(lambda config=config: check(config, schema))[1]
    record(GROUP, "the config with 1 to 3 keys gone, new or of another value", n, tally(n, refused))


def read_all(source: dict) -> tuple[int, int]:
    """(rows, rejected) of a source, each row whole or with a reason of one line."""
    rows = rejected = 0
    for row in read_source(source):
        rows += 1
        assert (row.amounts is None) <= (row.reason is not None)
        assert row.id is None or (row.id.isprintable() and len(row.id) <= 2000)
        if row.reason is not None:
            rejected += 1
            assert row.reason.isprintable() and len(row.reason) < 2000, repr(row.reason)
    return rows, rejected


def fuzz_source(rng: random.Random, whole: bytes, path: Path, n: int, source: dict) -> str:
    """Read ``n`` damaged versions of a file; returns what came out."""
    refused = rows = rejected = 0
    for _ in range(n):
        path.write_bytes(damaged(rng, whole))
        found, is_refused = refusal(lambda: read_all(source))
        refused += is_refused
        rows, rejected = (rows + found[0], rejected + found[1]) if found else (rows, rejected)
    return tally(n, refused, f" ({rows:,} rows, {rejected:,} of them rejected with a reason)")


def as_csv() -> bytes:
    return ("id,f,e\n" + "".join(f'"{r["id"]}",{r["f"]},{r["e"]}\n' for r in RECORDS)).encode()


def as_jsonl() -> bytes:
    return "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "whole", "quick", "full"),
    [
        ("x.csv", as_csv(), 300, 60_000),
        ("x.jsonl", as_jsonl(), 300, 60_000),
        ("x.csv.gz", gzip.compress(as_csv()), 200, 30_000),
        ("x.parquet", as_parquet(), 200, 20_000),
    ],
)
def test_tables(trials, record, tmp_path, name, whole, quick, full):
    n, source = trials(quick, full), {"kind": "table", "path": str(tmp_path / name), "columns": COLUMNS}
    outcome = fuzz_source(random.Random(3), whole, tmp_path / name, n, source)
    record(GROUP, f"bytes of a `{name.removeprefix('x')}` flipped, cut, put in", n, outcome)


CELL = {"id": "m1", "cell": [4, 4, 4, 90, 90, 90], "el": ["Cs", "Cl"], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.cif", content)
        archive.writestr("x.vasp", POSCAR)
    return buffer.getvalue()


def tarred(mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, text in (("x.cif", CIF), ("x.vasp", POSCAR)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "whole", "quick", "full"),
    [
        ("x.cif", CIF.encode(), 150, 10_000),
        ("x.vasp", POSCAR.encode(), 150, 10_000),
        ("cells.jsonl", json.dumps(CELL).encode(), 200, 20_000),
        ("cells.zip", zipped(CIF.encode()), 40, 6_000),
        ("cells.tar", tarred(), 80, 6_000),
        ("cells.tar.gz", tarred("w:gz"), 80, 6_000),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_structures(trials, record, tmp_path, name, whole, quick, full):
    n = trials(quick, full)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    source = {"kind": "structures", "path": str(path.parent if name.startswith("x.") else path)}
    outcome = fuzz_source(random.Random(4), whole, path, n, source)
    record(GROUP, f"bytes of a `{name.removeprefix('x').removeprefix('cells')}` flipped, cut, put in", n, outcome)


TABLE = tables.Table(
    "fuzzed",
    (
        tables.column("id", pa.string(), "name"),
        tables.column("value", pa.float64(), "number", null="unknown"),
        tables.column("parts", pa.list_(pa.uint16()), "numbers"),
    ),
)


def test_own_parquet(trials, record, tmp_path):
    """A table between stages: what can be read of a damaged one is what was written."""
    rng, path = random.Random(5), tmp_path / "x.parquet"
    data = {
        "id": [f"n{i}" for i in range(300)],
        "value": [i / 7 if i % 3 else None for i in range(300)],
        "parts": [[i, 2 * i] for i in range(300)],
    }
    tables.write(path, TABLE, data, {"seed": 1})
    whole, expected = path.read_bytes(), tables.read(path, TABLE)
    n, refused = trials(400, 30_000), 0
    for _ in range(n):
        flipped = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped[: rng.randrange(len(flipped))] if rng.random() < 0.1 else flipped)
        found, is_refused = refusal(lambda: tables.read(path, TABLE))
        refused += is_refused
        assert is_refused or found.equals(expected), "another table was read than was written"
    record(
        GROUP, "bits flipped in a table between stages, or its end cut", n, tally(n, refused, " as they were written")
    )


def test_weights(trials, record, tmp_path):
    rng, path = random.Random(6), tmp_path / "weights.safetensors"
    vocabulary = [1, 3, 8, 11]
    elemnet.ElemNet(elemnet.Network(4), vocabulary, "regression").save(path)
    whole = path.read_bytes()
    head = int.from_bytes(whole[:8], "little") + 8
    n, refused = trials(20, 6_000), 0
    for _ in range(n):
        path.write_bytes(damaged(rng, whole[:head]) + (whole[head:] if rng.random() < 0.9 else whole[head:-9]))
        refused += refusal(lambda: elemnet.ElemNet.load(path, vocabulary))[1]
    record(GROUP, "the header of a model's safetensors damaged, or its end cut", n, tally(n, refused))


def test_checkpoint(trials, record, tmp_path, capsys):
    rng = random.Random(7)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"network": network, "step": optimizer}
    progress = Progress(tmp_path, "f", seed=1)
    for _ in progress.epochs(1, state):
        progress.record(loss=torch.tensor(0.5))
    whole = (tmp_path / FILE).read_bytes()
    n, resumed = trials(200, 10_000), 0
    for _ in range(n):
        (tmp_path / FILE).write_bytes(damaged(rng, whole))
        again = Progress(tmp_path, "f", seed=1)
        with within_time():
            resumed += next(again.epochs(1, state), None) is None
        capsys.readouterr()
    record(
        GROUP,
        "bytes of a checkpoint flipped, cut, put in",
        n,
        f"{n - resumed:,} times training starts afresh, else goes on",
    )


@pytest.mark.parametrize(
    ("old", "new"), [(b"network/bias", b"network/jias"), (b"fingerprint", b"fjngerprint"), (b"0.5", b"0.6")]
)
def test_a_checkpoint_with_another_name_or_value(tmp_path, capsys, old, new):
    """Found by the fuzz: a part of another name ended the training with a traceback."""
    network = torch.nn.Linear(3, 2)
    progress = Progress(tmp_path, "f", seed=1)
    for _ in progress.epochs(1, {"network": network}):
        progress.record(loss=torch.tensor(0.5))
    whole = (tmp_path / FILE).read_bytes()
    assert old in whole
    (tmp_path / FILE).write_bytes(whole.replace(old, new, 1))
    assert next(Progress(tmp_path, "f", seed=1).epochs(1, {"network": network}), None) == 0
    assert "training starts afresh" in capsys.readouterr().err


CHILD = """
import gzip, random, sys
from pathlib import Path
import numpy as np
from pipeline import boosting
from tests.faults.test_fuzz import boosters
path, n, refused = Path(sys.argv[1]), int(sys.argv[2]), 0
features_NF = np.random.default_rng(0).normal(size=(20, 133))
for text in boosters(random.Random(8), n):
    path.write_bytes(gzip.compress(text.encode(), 1))
    try:
        assert np.isfinite(boosting.predict(boosting.load(path), features_NF, 1)).all()
    except ValueError as error:
        refused += 1
        assert str(error).isprintable()
print("refused", refused)
"""


def boosters(rng: random.Random, n: int) -> Iterator[str]:
    """LightGBM's text of three trees of a shipped model with numbers changed, characters changed, or parts left out."""
    path = ROOT / "resources" / "models" / "formation_energy_oqmd" / "interval.txt.gz"
    head, *trees = gzip.decompress(path.read_bytes()).decode().split("Tree=")
    three = "".join(f"Tree={tree}" for tree in trees[:3])
    head = re.sub(r"tree_sizes=.*", f"tree_sizes={' '.join(str(len(tree) + 5) for tree in trees[:3])}", head)
    whole = head + three + trees[-1][trees[-1].index("end of trees") :]
    numbers = list(re.finditer(r"-?[0-9.]+", head + three))
    values = ["0", "-1", "1", "nan", "1e999", "99999999999999", "-5", "12", "1.5", "", "2147483647", "x"]
    for _ in range(n):
        text = whole
        for _ in range(rng.choice((1, 1, 2, 5))):
            place, number = rng.randrange(len(text)), rng.choice(numbers)
            match rng.randrange(4):
                case 0 | 1:
                    text = text[: number.start()] + rng.choice(values) + text[number.end() :]
                case 2:
                    text = text[:place] + chr(rng.randrange(128)) + text[place + 1 :]
                case _:
                    text = text[:place] + text[place + rng.randrange(200) :]
        yield text


def test_boosters(trials, record, root, tmp_path):
    """In a process of its own: LightGBM crashes on trees that are none, so they must not reach it."""
    n = trials(40, 5_000)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "x.txt.gz"), str(n)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS + n // 10)
    assert done.returncode == 0, done.stderr[-2000:]
    record(GROUP, "LightGBM's text with numbers, letters or parts changed", n, tally(n, int(done.stdout.split()[-1])))
