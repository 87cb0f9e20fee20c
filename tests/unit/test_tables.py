"""Declared tables: what is enforced on write and on read, and that damage is always named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import tables
from pipeline.tables import Table, column

THINGS = Table(
    "things",
    (
        column("id", pa.string(), "name"),
        column("energy_ev", pa.float64(), "energy", null="unknown"),
        column("counts", pa.list_(pa.uint16()), "atoms"),
    ),
)
ROWS = {"id": ["a", "b"], "energy_ev": [1.5, None], "counts": [[1, 2], []]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "things.parquet"


def test_round_trip(path):
    tables.write(path, THINGS, ROWS)
    assert tables.read(path, THINGS).to_pydict() == ROWS
    assert tables.read(path, THINGS, ["counts", "id"]).to_pydict() == {k: ROWS[k] for k in ("counts", "id")}
    tables.write(path, THINGS, {name: ROWS[name] for name in reversed(ROWS)})
    assert tables.read(path, THINGS).column_names == ["id", "energy_ev", "counts"]


def test_rows_narrow_what_is_read(path):
    tables.write(path, THINGS, ROWS)
    assert tables.read(path, THINGS, ["counts"], pc.field("id") == "b").to_pydict() == {"counts": [[]]}


def test_no_rows(path):
    tables.write(path, THINGS, {name: [] for name in ROWS})
    assert tables.read(path, THINGS).num_rows == 0


def test_same_data_same_bytes(path):
    tables.write(path, THINGS, ROWS, {"b": 1, "a": 2})
    first = path.read_bytes()
    tables.write(path, THINGS, ROWS, {"a": 2, "b": 1})
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": None}, r"missing \['counts'\]"),
        ({"volume": [1, 2]}, r"unknown \['volume'\]"),
        ({"id": pa.array([1, 2])}, "'id' is int64, declared string"),
        ({"id": ["a", None]}, "'id' holds 1 nulls, none declared"),
        ({"counts": pa.array([[1], [2]])}, r"'counts' is list<.*int64>, declared"),
        ({"counts": [[1], None]}, "'counts' holds 1 nulls"),
        ({"energy_ev": ["x", "y"]}, "Could not convert|x"),
    ],
)
@pytest.mark.parametrize("as_table", [False, True])
def test_what_is_not_declared_is_not_written(path, change, reason, as_table):
    tables.write(path, THINGS, ROWS)
    before = path.read_bytes()
    data = {name: values for name, values in {**ROWS, **change}.items() if values is not None}
    if as_table:
        if "energy_ev" in change:
            reason = "'energy_ev' is string, declared double"
        types = {name: pa.array([[1]], pa.list_(pa.uint16())).type for name in ("counts",)}
        data = pa.table({n: v if isinstance(v, pa.Array) else pa.array(v, type=types.get(n)) for n, v in data.items()})
    with pytest.raises(ValueError, match=reason):
        tables.write(path, THINGS, data)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["things.parquet"]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"id": ["a"], "energy_ev": [1.0]}), "'counts' of table 'things' is absent"),
        (pa.table({"id": ["a"], "energy_ev": [1], "counts": pa.array([[1]], pa.list_(pa.uint16()))}), "is int64"),
        (
            pa.table({"id": [None, "a"], "energy_ev": [1.0, 2], "counts": pa.array([[1]] * 2, pa.list_(pa.uint16()))}),
            "'id' holds 1 nulls",
        ),
    ],
)
def test_what_is_not_declared_is_not_read(tmp_path, table, reason):
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=reason) as error:
        tables.read(tmp_path / "bad.parquet", THINGS)
    assert str(tmp_path / "bad.parquet") in str(error.value)


def test_damage_is_named(path):
    tables.write(path, THINGS, {"id": [f"n{i}" for i in range(50)], "energy_ev": [1.0] * 50, "counts": [[1, 2]] * 50})
    whole = path.read_bytes()
    expected = tables.read(path, THINGS)
    for end in range(0, len(whole), 17):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"things.parquet: .* rerun the stage"):
            tables.read(path, THINGS)
    harmless = 0
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = tables.read(path, THINGS)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            harmless += 1
            assert found.equals(expected), f"bit flipped in byte {place}: other data, no error"
    assert harmless < len(whole) / 3


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no\.parquet: no such file; run the stage that writes table 'things'"):
        tables.read(tmp_path / "no.parquet", THINGS)
    with pytest.raises(ValueError, match=str(tmp_path)):
        tables.read(tmp_path, THINGS)


def test_an_exception_leaves_the_old_file_alone(path):
    tables.write(path, THINGS, ROWS)
    before = path.read_bytes()

    def broken():
        with tables.atomic(path) as temporary, tables.writer(temporary, THINGS) as append:
            append(ROWS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_writer_appends(path):
    with tables.atomic(path) as temporary, tables.writer(temporary, THINGS) as append:
        append(ROWS)
        append({name: [] for name in ROWS})
        append(ROWS)
        assert not path.exists()
    assert tables.read(path, THINGS).to_pydict() == {name: values * 2 for name, values in ROWS.items()}


def test_metadata(path):
    tables.write(path, THINGS, ROWS, {"stage": "here", "seed": 3})
    assert tables.provenance(path) == {"table": "things", "stage": "here", "seed": 3}
    schema = pq.read_schema(path)
    assert schema.field("energy_ev").metadata[b"description"] == b"energy; null: unknown"


def test_fixed_shape_tensors(tmp_path):
    table = Table("tensors", (column("x", pa.fixed_shape_tensor(pa.uint8(), [3, 2]), "a matrix"),))
    values = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    tables.write(tmp_path / "x.parquet", table, {"x": pa.FixedShapeTensorArray.from_numpy_ndarray(values)})
    found = tables.read(tmp_path / "x.parquet", table)["x"].combine_chunks().to_numpy_ndarray()
    assert found.dtype == np.uint8 and (found == values).all()
    other = Table("tensors", (column("x", pa.fixed_shape_tensor(pa.uint8(), [2, 3]), "a matrix"),))
    with pytest.raises(ValueError, match="column 'x' of table 'tensors'"):
        tables.read(tmp_path / "x.parquet", other)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    path = tmp_path / "id=7" / "things.parquet"
    tables.write(path, THINGS, ROWS)
    assert tables.read(path, THINGS).to_pydict() == ROWS


def test_read_all_keeps_the_order_given(tmp_path):
    for name in "ab":
        tables.write(tmp_path / name, THINGS, {**ROWS, "id": [name, name + name]})
    found = tables.read_all((tmp_path / name for name in "ba"), THINGS, iter(["id"]))
    assert found["id"].to_pylist() == ["b", "bb", "a", "aa"]


def test_json(tmp_path):
    path = tmp_path / "x.json"
    tables.write_json(path, {"b": 1, "a": [1.5, None]})
    assert tables.read_json(path) == {"b": 1, "a": [1.5, None]}
    assert list(json.loads(path.read_text())) == ["b", "a"]
    before = path.read_text()
    with pytest.raises(ValueError, match=r"nan|NaN"):
        tables.write_json(path, {"a": float("nan")})
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1
    for damaged in (before[:-5].encode(), b"", b"\xff\xfe{}"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
            tables.read_json(path)
