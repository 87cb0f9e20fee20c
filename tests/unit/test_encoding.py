"""The generators' tensors, and the hold-out."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import generators
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT, encode, encoding_of, hold_out, read_tensors, split
from pipeline.generators import Tensors, matgan, seqgan
from pipeline.generators.counts import Encoding, count_matrix
from pipeline.tables import read, read_json, write, write_json


def write_entries(path, formulas):
    batch = Compositions.from_formulas(formulas).reduced()
    nothing = {field.name: [None] * len(batch) for field in ENTRIES.fields}
    ids = [f"id{place}" for place in range(len(batch))]
    known = {"id": ids, "source": ["x"] * len(batch), "formula": batch.formulas(), **batch.columns()}
    write(path, ENTRIES, {**nothing, **known})


def encoded(folder, formulas, share=0.0, seed=1, vocabulary=None, systems_share=0.0):
    """What comes back: ids and tensors, vocabulary, split."""
    write_entries(folder / "entries.parquet", formulas)
    present = np.unique(Compositions.from_formulas(formulas).elements)
    vocabulary = vocabulary or [SYMBOLS[z - 1] for z in present]
    write_json(folder / "cleaning.json", {"vocabulary": vocabulary})
    hold_out(
        entries_path=folder / "entries.parquet",
        cleaning_path=folder / "cleaning.json",
        vocabulary_path=folder / "vocabulary.json",
        split_path=folder / "split.parquet",
        holdout_share=share,
        holdout_systems_share=systems_share,
        seed=seed,
    )
    encode(
        generator="matgan",
        settings={},
        entries_path=folder / "entries.parquet",
        vocabulary_path=folder / "vocabulary.json",
        tensors_path=folder / "tensors.parquet",
        seed=seed,
    )
    ids, tensors = read_tensors(folder / "tensors.parquet")
    return {"id": ids, **tensors}, read_json(folder / "vocabulary.json"), read(folder / "split.parquet", SPLIT)


def test_known_matrices(tmp_path):
    tensors, vocabulary, held_out = encoded(tmp_path, ["Al2O3", "NaCl", "Fe9O"])
    assert vocabulary == {"elements": ["O", "Na", "Al", "Cl", "Fe"], "entries": 3, "held_out": 0}
    assert tensors["counts"].tolist() == [[3, 0, 2, 0, 0], [0, 1, 0, 1, 0]]
    assert tensors["id"] == ["id0", "id1"]
    assert held_out["id"].to_pylist() == ["id0", "id1", "id2"]


def test_counts_are_those_of_the_formulas(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        dict(zip(random.choice(np.arange(1, 30), n, replace=False).tolist(), random.integers(1, 10, n), strict=True))
        for n in random.integers(1, 7, 300)
    ]
    batch = Compositions.from_dicts(rows).reduced()
    tensors, vocabulary, _ = encoded(tmp_path, batch.formulas().to_pylist())
    counts = tensors["counts"]
    assert counts.dtype == np.uint8
    fits = batch.largest_count() <= 8
    assert 0 < fits.sum() == len(counts) < vocabulary["entries"] == 300
    numbers = [SYMBOLS.index(symbol) + 1 for symbol in vocabulary["elements"]]
    assert numbers == sorted(set(batch.elements.tolist()))
    assert (counts == batch.take(fits).dense(numbers)).all()


def test_torch_views_the_tensors_without_a_copy(tmp_path):
    tensors, _, _ = encoded(tmp_path, ["Al2O3", "NaCl"])
    viewed = tensors["counts"]
    assert viewed.base is not None, "a view of the buffer that Parquet was decoded into"
    assert torch.tensor(viewed).sum() == 7


def test_nothing_fits_the_box(tmp_path):
    with pytest.raises(ValueError, match=r"no entry of 2 has at most 8 atoms of each element"):
        encoded(tmp_path, ["Fe9O", "NaO99"])


def many(n: int) -> Compositions:
    place = np.arange(n)
    return Compositions.from_dense(np.column_stack([place % 250 + 1, place // 250 + 1, place % 7 + 1]), [11, 17, 8])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.5])
def test_share_held_out(share):
    """Within 3 standard deviations of the binomial distribution, for several seeds."""
    n = 20_000
    for seed in range(5):
        found = split(many(n), share, seed).sum()
        assert abs(found - n * share) <= 3 * np.sqrt(n * share * (1 - share))


def test_side_depends_on_formula_and_seed_alone():
    batch = many(2000)
    held_out = split(batch, 0.3, 1)
    order = np.random.default_rng(0).permutation(2000)
    assert (split(batch.take(order), 0.3, 1) == held_out[order]).all()
    assert (split(batch.take(np.arange(7, 500, 3)), 0.3, 1) == held_out[7:500:3]).all()
    twice = batch.take(np.concatenate([order, order]))
    assert (split(twice, 0.3, 1).reshape(2, -1) == held_out[order]).all()


def test_seeds_hold_out_independently():
    one, other = split(many(20_000), 0.5, 1), split(many(20_000), 0.5, 2)
    assert abs((one == other).mean() - 0.5) < 3 * 0.5 / np.sqrt(20_000)


def test_a_larger_share_holds_out_the_same_and_more():
    small, large = split(many(5000), 0.1, 1), split(many(5000), 0.2, 1)
    assert (large | ~small).all()


def test_duplicates_of_a_formula_go_together(tmp_path):
    formulas = ["NaCl", "Al2O3", "MgO", "KBr", "CsF"] * 40
    _, vocabulary, table = encoded(tmp_path, formulas, share=0.5)
    sides = {}
    for formula, side in zip(formulas, table["held_out"].to_pylist(), strict=True):
        sides.setdefault(formula, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert vocabulary["held_out"] == sum(table["held_out"].to_pylist())


def test_same_seed_same_bytes(tmp_path):
    def files(seed):
        encoded(tmp_path, many(300).formulas().to_pylist()[:300], 0.3, seed)
        return [(tmp_path / name).read_bytes() for name in ("tensors.parquet", "vocabulary.json", "split.parquet")]

    one = files(1)
    assert files(1) == one
    assert files(2)[2] != one[2] and json.loads(one[1])["entries"] == 300


def test_a_given_vocabulary_is_kept_whole(tmp_path):
    tensors, vocabulary, _ = encoded(tmp_path, ["NaCl"], vocabulary=["O", "Na", "Cl"])
    assert vocabulary["elements"] == ["O", "Na", "Cl"]
    assert tensors["counts"].tolist() == [[0, 1, 1]]


def test_compositions_of_every_generator_are_counted_alike():
    assert matgan.encode is seqgan.encode and matgan.Encoding is Encoding
    counts_NE, fits = count_matrix(Compositions.from_formulas(["NaCl", "Fe9O", "H2O"]), [1, 8, 11, 17, 26])
    assert counts_NE.tolist() == [[0, 0, 1, 1, 0], [2, 1, 0, 0, 0]] and counts_NE.dtype == np.uint8
    assert fits.tolist() == [True, False, True]


def test_any_tensors_come_back_as_they_were_made(tmp_path, monkeypatch):
    """Shapes, types and repeated ids are the generator's own; the file alone says what they are."""
    random = np.random.default_rng(0)
    columns = {
        "tensor": (random.normal(size=(3, 4, 18, 3)), "angstrom"),
        "turned": (random.integers(0, 9, (2, 3, 3)).T[:, :2], "an array that is no block of memory"),
        "domain": (np.array([[0], [1], [1]], dtype=np.uint8), "which"),
    }
    seen = {}

    def made(entries, vocabulary, encoding, seed):
        seen.update(entries=entries.column_names, vocabulary=vocabulary, encoding=encoding, seed=seed)
        return Tensors(["id1", "id0", "id1"], columns)

    monkeypatch.setattr(generators.load("matgan"), "encode", made)
    tensors, _, _ = encoded(tmp_path, ["NaCl", "MgO"], seed=7)
    assert tensors.pop("id") == ["id1", "id0", "id1"] and tensors.keys() == columns.keys()
    for name, (array, meaning) in columns.items():
        assert tensors[name].dtype == array.dtype and np.array_equal(tensors[name], array)
        field = pq.read_schema(tmp_path / "tensors.parquet").field(name)
        assert field.metadata[b"description"].decode() == meaning
    assert seen == {"entries": ENTRIES.schema.names, "vocabulary": [8, 11, 12, 17], "encoding": Encoding(), "seed": 7}


def test_settings_of_the_encoding():
    crystalgan = generators.load("crystalgan")
    assert encoding_of(seqgan, {}) == Encoding()
    assert encoding_of(crystalgan, {"pairs": [["Mg", "Ti"]]}).pairs == (("Mg", "Ti"),)
    with pytest.raises(
        ValueError, match=r"encoding\.settings: 'pairs' is unknown; pipeline\.generators\.seqgan has none"
    ):
        encoding_of(seqgan, {"pairs": []})
    with pytest.raises(ValueError, match=r"encoding\.settings: 'pair' is unknown; .*crystalgan has pairs, anion"):
        encoding_of(crystalgan, {"pair": []})


def test_a_file_that_holds_no_tensors_is_named(tmp_path):
    encoded(tmp_path, ["NaCl", "MgO"])
    path = tmp_path / "tensors.parquet"
    whole = path.read_bytes()
    path.write_bytes((tmp_path / "split.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"tensors\.parquet: holds no tensors; delete the file"):
        read_tensors(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(ValueError, match=r"tensors\.parquet: column 'id' of table 'tensors' is absent"):
        read_tensors(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"tensors\.parquet: not a whole Parquet file"):
        read_tensors(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"tensors\.parquet: no such file"):
        read_tensors(path)


def test_a_held_out_system_is_held_out_whole(tmp_path):
    formulas = [
        f"{a}{n}{b}{m}" for a in ("Li", "Na", "K", "Mg") for b in ("F", "Cl", "O") for n in (1, 2) for m in (1, 3)
    ]
    _, _, rows = encoded(tmp_path, formulas, systems_share=0.3)
    entries = read(tmp_path / "entries.parquet", ENTRIES, ["elements"])["elements"].to_pylist()
    sides = {}
    for elements, held_out in zip(entries, rows["held_out_system"].to_pylist(), strict=True):
        sides.setdefault(frozenset(elements), set()).add(held_out)
    assert all(len(side) == 1 for side in sides.values())
    assert {True} in sides.values() and {False} in sides.values()
    assert rows["held_out"] == rows["held_out_system"]
