"""What holds for every formula, composition, tensor and config: random ones by hypothesis, the same in every run.

That compositions are reduced, hashed and found exactly is in `test_composition.py`; here they meet pymatgen, each
other, files and the generators' tensors.
"""

import copy
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from pipeline import tables
from pipeline.cells import Cell, from_table, minimum_distance, structure_hash, to_columns
from pipeline.composition import (
    ATOMIC_NUMBERS,
    COUNTS,
    ELEMENTS,
    MAX_COUNT,
    SYMBOLS,
    Compositions,
    concatenate,
    parse_formula,
)
from pipeline.configuration import check
from pipeline.encoding import encode, hold_out, read_tensors, split
from pipeline.generators import matgan
from pipeline.generators.counts import BOX

ROOT = Path(__file__).resolve().parents[2]
TABLE = tables.Table("compositions", (ELEMENTS, COUNTS))

same = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

elements = st.integers(1, 118)
amounts = st.dictionaries(elements, st.integers(1, 300), min_size=1, max_size=6)
batches = st.lists(st.dictionaries(elements, st.integers(1, MAX_COUNT), max_size=6), max_size=12)
small = st.dictionaries(st.integers(1, 12), st.integers(1, BOX), min_size=1, max_size=5)
boxed = st.lists(small, min_size=1, max_size=8)
wrong = st.sampled_from([*"\x00\n\t)(]*+-/;$'`=·", "\x1b[2J", "\u202e", "Xx", "..", "\ud800"])


def written(tokens: list[tuple[int, int]]) -> str:
    return "".join(f"{SYMBOLS[z - 1]}{count if count > 1 else ''}" for z, count in tokens)


@st.composite
def formulas(draw, depth: int = 2) -> str:
    """Formulas with brackets of all kinds, at most two deep."""
    text = ""
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.sampled_from(["", "1", "2", "3", "12"]))
        if depth and draw(st.booleans()):
            opening, closing = draw(st.sampled_from(["()", "[]", "{}"]))
            text += f"{opening}{draw(formulas(depth - 1))}{closing}{count}"
        else:
            text += f"{SYMBOLS[draw(elements) - 1]}{count}"
    return text


# Parsing --------------------------------------------------------------------------------------------------------------


@given(formulas())
@settings(same, max_examples=300)
def test_parsing_equals_pymatgen(formula):
    theirs = Composition(formula).get_el_amt_dict()
    assert {SYMBOLS[z - 1]: count for z, count in parse_formula(formula).items()} == theirs


@given(amounts, st.randoms())
@same
def test_parsing_ignores_order_repeats_and_blanks(row, random):
    tokens = [(z, 1) for z, count in row.items() for _ in range(min(count, 3))]
    tokens += [(z, count - 3) for z, count in row.items() if count > 3]
    random.shuffle(tokens)
    if len(written(tokens)) <= 150:
        assert parse_formula(written(tokens)) == row
        assert parse_formula(" ".join(written([token]) for token in tokens)) == row


@given(amounts, st.integers(2, 100))
@same
def test_a_multiple_multiplies_and_reduces_to_the_same(row, factor):
    inner = written(list(row.items()))
    multiple = parse_formula(f"({inner}){factor}")
    assert multiple == {z: count * factor for z, count in row.items()}
    one, many = (Compositions.from_dicts([each]).reduced() for each in (row, multiple))
    assert one.same_as(many).all() and (one.hashes() == many.hashes()).all()
    assert one.formulas().to_pylist() == many.formulas().to_pylist()


@given(amounts)
@same
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_reduced_formula_is_pymatgens(row):
    ours = Compositions.from_dicts([row]).reduced()
    theirs, divisor = Composition(
        {SYMBOLS[z - 1]: count for z, count in row.items()}
    ).get_reduced_composition_and_factor()
    if len(row) > 1:  # pymatgen keeps O2, N2 ... as molecules
        assert parse_formula(ours.formulas()[0].as_py()) == {ATOMIC_NUMBERS[e.symbol]: n for e, n in theirs.items()}
        assert divisor == math.gcd(*row.values())


@given(formulas(), st.integers(0, 60), wrong)
@same
def test_one_wrong_letter_is_refused_with_a_printable_line(formula, place, letter):
    text = formula[:place] + letter + formula[place:]
    try:
        found = parse_formula(text)
    except ValueError as error:
        assert str(error).startswith("formula ") and str(error).isprintable()
    else:
        assert letter in ")(]" and found  # "(Fe)(O)" and the like


# Compositions ---------------------------------------------------------------------------------------------------------


@given(batches, batches)
@same
def test_equal_hashes_mean_equal_compositions(one, other):
    """Of random ones; that collisions are survived is tested where they are made."""
    both = Compositions.from_dicts([*one, *other])
    hashes = both.hashes()
    keys = [frozenset(row.items()) for row in (*one, *other)]
    assert len(set(hashes.tolist())) == len(set(keys))
    assert all((hashes[i] == hashes[j]) == (keys[i] == keys[j]) for i in range(len(keys)) for j in range(i))


@given(batches, st.randoms())
@same
def test_unique_does_not_depend_on_the_order_of_rows(rows, random):
    shuffled = random.sample(rows, len(rows))
    found = []
    for each in (rows, shuffled):
        batch = Compositions.from_dicts(each)
        first, inverse = batch.unique()
        assert batch.take(first[inverse]).same_as(batch).all()
        found.append(set(batch.take(first).hashes().tolist()))
    assert found[0] == found[1]


@given(batches, batches, batches)
@same
def test_contained_in_is_membership(rows, one, other):
    batch, left, right = (Compositions.from_dicts(each) for each in (rows, one, other))
    inside = batch.contained_in(left) | batch.contained_in(right)
    assert inside.tolist() == batch.contained_in(concatenate([left, right])).tolist()
    assert batch.contained_in(batch).all()
    assert inside.tolist() == [row in (*one, *other) for row in rows]


@given(batches, st.integers(0, 12))
@same
def test_a_batch_is_the_concatenation_of_its_parts(rows, cut):
    batch = Compositions.from_dicts(rows)
    index = np.arange(len(rows))
    again = concatenate([batch.take(index[:cut]), batch.take(index[cut:])])
    assert again.same_as(batch).all() and (again.offsets == batch.offsets).all()
    order = index[::-1]
    assert batch.take(order).take(order).same_as(batch).all()


@given(rows=batches, cut=st.integers(0, 12))
@settings(same, max_examples=50)
def test_files_give_back_what_was_written(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp("table") / "x.parquet"
    batch = Compositions.from_dicts(rows)
    tables.write(path, TABLE, batch.columns())
    found = tables.read(path, TABLE)
    assert Compositions.from_table(found).same_as(batch).all()
    rest = Compositions.from_table(found.slice(min(cut, len(rows))))
    assert rest.same_as(batch.take(np.arange(min(cut, len(rows)), len(rows)))).all()
    two = Compositions.from_table(pa.concat_tables([found, found]))
    assert two.same_as(concatenate([batch, batch])).all()


# Encoding -------------------------------------------------------------------------------------------------------------


@given(boxed, st.randoms())
@same
def test_one_hot_tensors_decode_to_their_counts(rows, random):
    """MatGAN's tensors, also of scores on either side of the threshold."""
    vocabulary = list(range(1, 13))
    random.shuffle(vocabulary)
    batch = Compositions.from_dicts(rows)
    counts = torch.from_numpy(batch.dense(vocabulary).astype(np.uint8))
    one_hot = matgan.expand(counts)
    assert one_hot.shape == (len(rows), 12, matgan.KINDS) and ((one_hot == 0) | (one_hot == 1)).all()
    assert (one_hot.sum(2) == (counts > 0)).all()
    for scores in (one_hot, 0.49 + 0.02 * one_hot):
        decoded, ambiguous = matgan.decode(scores, 0.5)
        assert (decoded == counts).all() and not ambiguous.any()
    assert Compositions.from_dense(decoded.numpy(), vocabulary).same_as(batch).all()
    row = random.randrange(len(rows))
    twice = one_hot.clone()
    twice[row, random.randrange(12)] = 1.0
    assert matgan.decode(twice, 0.5)[1].tolist() == [each == row for each in range(len(rows))]


@given(rows=boxed)
@settings(same, max_examples=30)
def test_stored_tensors_are_matgans(tmp_path_factory, rows):
    """What the encoding stage writes, read back: both tensors say the entries' counts."""
    from pipeline.database.schema import ENTRIES

    folder = tmp_path_factory.mktemp("encoding")
    batch = Compositions.from_dicts(rows)
    unknown = dict.fromkeys(ENTRIES.schema.names, [None] * len(rows))
    ids = [str(i) for i in range(len(rows))]
    entries = {**unknown, "id": ids, "source": ids, "formula": batch.formulas(), **batch.columns()}
    tables.write(folder / "entries.parquet", ENTRIES, entries)
    present = sorted({z for row in rows for z in row})
    tables.write_json(folder / "cleaning.json", {"vocabulary": [SYMBOLS[z - 1] for z in present]})
    both = {"entries_path": folder / "entries.parquet", "vocabulary_path": folder / "vocabulary", "seed": 1}
    shares = {"holdout_share": 0.1, "holdout_systems_share": 0.0}
    hold_out(cleaning_path=folder / "cleaning.json", split_path=folder / "split", **shares, **both)
    encode(generator="matgan", settings={}, tensors_path=folder / "tensors", **both)
    _, stored = read_tensors(folder / "tensors")
    assert Compositions.from_dense(stored["counts"], present).same_as(batch).all()


@given(batches, st.floats(0, 0.99), st.integers(0, 2**32))
@same
def test_the_hold_out_looks_at_the_composition_alone(rows, share, seed):
    batch = Compositions.from_dicts(rows)
    held = split(batch, share, seed)
    alone = [bool(split(batch.take(np.array([i])), share, seed)[0]) for i in range(len(rows))]
    assert held.tolist() == alone
    assert (held <= split(batch, min(share + 0.1, 1.0), seed)).all()


# Cells ----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.lists(st.tuples(st.permutations(range(3)), st.integers(-30, 30)), max_size=3))
@same
def test_the_shortest_distance_does_not_depend_on_the_choice_of_lattice_vectors(seed, steps):
    rng = np.random.default_rng(seed)
    lattice, sites = np.diag(rng.uniform(3, 9, 3)) + rng.normal(size=(3, 3)), rng.random((4, 3))
    cell = Cell(lattice, np.array([8, 8, 26, 11], np.uint8), sites)
    skewed, moved = lattice.copy(), sites.copy()
    for (i, j, _), factor in steps:
        skewed[i] += factor * skewed[j]
        moved[:, j] -= factor * moved[:, i]
    other = Cell(skewed, cell.elements, moved)
    assume(other.volume > 1e-8 * np.linalg.norm(skewed, axis=1).prod())  # else it counts as flat
    assert minimum_distance(other) == pytest.approx(minimum_distance(cell), abs=1e-6)
    again = from_table(pa.table(to_columns([other, None, cell])))
    assert again[1] is None and structure_hash(again[0]) == structure_hash(other)


# Config ---------------------------------------------------------------------------------------------------------------

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.json"


def places(section: dict, above: tuple = ()):
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=2)


@given(st.sampled_from(list(places(DEFAULT))), values, st.sampled_from(["set", "drop", "add"]), st.text(max_size=9))
@settings(same, max_examples=150)
def test_a_changed_config_is_accepted_or_refused_by_a_line_with_the_place(place, value, change, name):
    config = copy.deepcopy(DEFAULT)
    section = config
    for key in place[:-1]:
        section = section[key]
    if change == "drop":
        del section[place[-1]]
    elif change == "set":
        section[place[-1]] = value
    else:
        section[name] = value
    try:
        check(config, SCHEMA)
    except ValueError as error:
        line = str(error)
        assert line.startswith("config: ") and line.isprintable() and len(line) < 1500
        named = repr(name) if change == "add" and name not in place else place[-1]
        assert named in line or (change == "add" and name in line), line
    else:
        assert change != "drop"
