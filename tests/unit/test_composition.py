"""Formulas and integer compositions, against hand-made answers, pymatgen and Python's own sets."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from pipeline.composition import (
    ATOMIC_NUMBERS,
    MAX_COUNT,
    RANK,
    SYMBOLS,
    Compositions,
    concatenate,
    parse_formula,
)

amounts = st.dictionaries(st.integers(1, 118), st.integers(1, MAX_COUNT), max_size=8)
batches = st.lists(amounts, max_size=12)
small = st.lists(st.dictionaries(st.integers(1, 4), st.integers(1, 3), max_size=3), max_size=30)


def symbols(formula: str) -> dict[str, int]:
    return {SYMBOLS[z - 1]: count for z, count in parse_formula(formula).items()}


def dicts(batch: Compositions) -> list[dict[int, int]]:
    bounds = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    return [dict(zip(batch.elements[a:b].tolist(), batch.counts[a:b].tolist(), strict=True)) for a, b in bounds]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", {"Na": 1, "Cl": 1}),
        ("NaN", {"Na": 1, "N": 1}),
        ("Inf", None),
        ("D2O", {"H": 2, "O": 1}),
        ("HDO", {"H": 2, "O": 1}),
        ("Li3Fe2(PO4)3", {"Li": 3, "Fe": 2, "P": 3, "O": 12}),
        ("Ca10(PO4)6(OH)2", {"Ca": 10, "P": 6, "O": 26, "H": 2}),
        ("K3[Fe(CN)6]", {"K": 3, "Fe": 1, "C": 6, "N": 6}),
        ("{[(Fe)2]3}4", {"Fe": 24}),
        ("  Fe2 O3 ", {"Fe": 2, "O": 3}),
        ("Fe2.0O3", {"Fe": 2, "O": 3}),
        ("CO", {"C": 1, "O": 1}),
        ("Co", {"Co": 1}),
        ("OO", {"O": 2}),
        ("Fe65535", {"Fe": 65535}),
    ],
)
def test_known_formulas(formula, expected):
    if expected is None:
        with pytest.raises(ValueError, match="Inf"):
            parse_formula(formula)
    else:
        assert symbols(formula) == expected


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("", "cannot be read"),
        ("   ", "cannot be read"),
        ("Xx2O3", "'Xx' is no element"),
        ("Fe0.5O", "amount 0.5 is fractional; multiply"),
        ("Fe0O", "not positive"),
        ("Fe0", "not positive"),
        ("Fe)", r"'\)' closes nothing"),
        ("(Fe", "bracket is not closed"),
        ("()", "0 atoms"),
        ("(Fe2O3)0.5", "fractional"),
        ("Fe2..O", "no amount"),
        ("Fe.", "no amount"),
        ("2Fe", "cannot be read at '2Fe'"),
        ("Fe-O", "cannot be read at '-O'"),
        ("Fe2+", r"cannot be read at '\+'"),
        ("fe2o3", "cannot be read"),
        ("Fe\x00O", "cannot be read"),
        ("Fe\x0bO", "cannot be read"),
        ("Fe\nO", "cannot be read"),
        ("Fe\x1b[31mO", "cannot be read"),
        ("Fe\ud800", "cannot be read"),
        ("Fe₂O₃", "cannot be read at '₂O₃'"),
        ("Fe٣O", "cannot be read"),
        ("Fe２", "cannot be read"),
        ("CuSO4·5H2O", "cannot be read"),
        ("Fe65536", "above 65535"),
        ("(Fe256)256", "65536 atoms of one element"),
        ("Fe65535Fe", "65536 atoms"),
        ("Fe" + "9" * 190, "above 65535"),
        ("Fe" + "9" * 400, "402 characters, 200 can be read"),
        ("NaN3.5", "fractional"),
    ],
)
def test_bad_formulas(formula, reason):
    with pytest.raises(ValueError, match=reason) as error:
        parse_formula(formula)
    message = str(error.value)
    assert message.isprintable() and len(message) < 1200


@pytest.mark.parametrize("text", ["Fe", "(", "()", "9", "\x00", "(Fe)65535", " ", "Fe2(", "x"])
def test_a_megabyte_of_formula_is_refused_at_once(text):
    started = time.perf_counter()
    with pytest.raises(ValueError) as error:
        parse_formula(text * (1_000_000 // len(text)))
    assert time.perf_counter() - started < 0.2
    assert len(str(error.value)) < 200


@given(st.text(alphabet="FeOH()[]{}0123456789. \tNaCl·²", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused_by_value_error(text):
    try:
        found = parse_formula(text)
    except ValueError:
        return
    assert found and all(1 <= count <= MAX_COUNT for count in found.values())


def test_rank_is_pymatgens_electronegativity():
    with pytest.warns(UserWarning):
        electronegativity = {z: Element.from_Z(z).X for z in range(1, 119)}
    have = [z for z in electronegativity if not np.isnan(electronegativity[z])]
    assert len(have) > 90
    assert sorted(have, key=lambda z: RANK[z]) == sorted(have, key=lambda z: (electronegativity[z], SYMBOLS[z - 1]))
    assert sorted(RANK[1:]) == list(range(1, 119))
    assert [Element(symbol).Z for symbol in SYMBOLS] == list(range(1, 119))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_formulas_are_pymatgens_reduced_formulas_in_order_and_content():
    """Same order of elements as pymatgen writes; it groups polyanions, so the text is compared by its elements."""
    random = np.random.default_rng(0)
    known = np.array([z for z in range(1, 104) if not np.isnan(Element.from_Z(z).X)])
    rows = [
        dict(zip(random.choice(known, n, replace=False).tolist(), random.integers(1, 40, n).tolist(), strict=True))
        for n in random.integers(1, 8, 500)
    ]
    for row, formula in zip(rows, Compositions.from_dicts(rows).reduced().formulas().to_pylist(), strict=True):
        theirs = Composition({SYMBOLS[z - 1]: count for z, count in row.items()})
        reduced = theirs.get_reduced_composition_and_factor()[0]
        if len(row) > 1:  # pymatgen keeps O2, N2 ... as molecules
            assert {element.symbol: int(count) for element, count in reduced.items()} == symbols(formula)
        assert [SYMBOLS[z - 1] for z in parse_formula(formula)] == theirs.formula.translate(
            str.maketrans("", "", "0123456789.")
        ).split()


def test_known_formula_text():
    batch = Compositions.from_formulas(["O12(Fe2P3)Li3", "ClNa", "O2H4", "H2"]).reduced()
    assert batch.formulas().to_pylist() == ["Li3Fe2P3O12", "NaCl", "H2O", "H"]


@given(batches)
@settings(deadline=None)
def test_formula_round_trip(rows):
    batch = Compositions.from_dicts(rows)
    assert dicts(batch) == rows
    filled = batch.take(batch.n_elements > 0)
    again = Compositions.from_formulas(filled.formulas().to_pylist())
    assert dicts(again) == [row for row in rows if row]
    assert again.same_as(filled).all()


@given(batches)
@settings(deadline=None)
def test_reduction(rows):
    once = Compositions.from_dicts(rows).reduced()
    for row, reduced in zip(rows, dicts(once), strict=True):
        divisor = np.gcd.reduce(list(row.values())) if row else 1
        assert reduced == {z: count // divisor for z, count in row.items()}
    assert dicts(once.reduced()) == dicts(once)


@given(batches, st.randoms())
@settings(deadline=None)
def test_hash_and_order_do_not_depend_on_the_order_of_elements(rows, random):
    shuffled = [dict(random.sample(list(row.items()), len(row))) for row in rows]
    one, other = Compositions.from_dicts(rows), Compositions.from_dicts(shuffled)
    assert (one.hashes() == other.hashes()).all()
    assert (one.elements == other.elements).all() and one.same_as(other).all()


def test_hash_does_not_depend_on_the_neighbours():
    rows = [{8: 1}, {}, {8: 2, 26: 1}, {11: 65535}]
    alone = [int(Compositions.from_dicts([row]).hashes()[0]) for row in rows]
    assert Compositions.from_dicts(rows).hashes().tolist() == alone
    assert len(set(alone)) == 4


def test_hashes_are_those_of_earlier_versions():
    """Partitions, hold-outs and the order of samples go by them."""
    hashes = Compositions.from_formulas(["NaCl", "Fe2O3", "Li3Fe2P3O12"]).hashes()
    assert hashes.tolist() == [0x2EA474088E2544AE, 0xFF710BB35708D51E, 0xB29A0A121B1423CF]


def test_no_collision_among_many():
    random = np.random.default_rng(0)
    counts_NE = random.integers(0, 9, (300_000, 8), dtype=np.uint8)
    n_distinct = len(np.unique(counts_NE @ 9 ** np.arange(8)))
    assert len(np.unique(Compositions.from_dense(counts_NE, range(20, 28)).hashes())) == n_distinct


COLLISIONS = {
    "none": lambda hashes: hashes,
    "all": lambda hashes: np.zeros_like(hashes),
    "seven": lambda hashes: hashes % np.uint64(7),
    "at the table's last entry": lambda hashes: ~(hashes % np.uint64(3)),
    "of the half that the table keeps": lambda hashes: hashes >> np.uint64(32) << np.uint64(32),
    "of the half that says where to look": lambda hashes: hashes & np.uint64(0xFFFFFFFF),
}


@pytest.mark.parametrize("collisions", COLLISIONS)
@given(rows=small, known=small)
@settings(max_examples=60, deadline=None)
def test_unique_and_contained_in_are_exact_under_collisions(collisions, rows, known):
    batch, other = Compositions.from_dicts(rows), Compositions.from_dicts(known)
    original = Compositions.hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compositions, "hashes", lambda self: COLLISIONS[collisions](original(self)))
        first, inverse = batch.unique()
        inside = batch.contained_in(other)
    keys = [frozenset(row.items()) for row in rows]
    expected_first = [i for i, key in enumerate(keys) if key not in keys[:i]]
    assert first.tolist() == expected_first
    assert [keys[first[place]] for place in inverse] == keys
    assert inside.tolist() == [key in {frozenset(row.items()) for row in known} for key in keys]


@given(batches, st.data())
@settings(deadline=None)
def test_take(rows, data):
    batch = Compositions.from_dicts(rows)
    positions = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    assert dicts(batch.take(np.array(positions, dtype=np.int64))) == [rows[i] for i in positions]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), dtype=bool)
    assert dicts(batch.take(mask)) == [row for row, keep in zip(rows, mask, strict=True) if keep]


@given(small)
@settings(deadline=None)
def test_dense_round_trip(rows):
    batch = Compositions.from_dicts(rows)
    for vocabulary in ([1, 2, 3, 4], [4, 9, 2, 1, 3, 118]):
        dense = batch.dense(vocabulary)
        assert dense.shape == (len(rows), len(vocabulary))
        assert dense.tolist() == [[row.get(z, 0) for z in vocabulary] for row in rows]
        assert dicts(Compositions.from_dense(dense, vocabulary)) == rows


def test_dense_names_what_is_outside_the_vocabulary():
    with pytest.raises(ValueError, match=r"\['Cl', 'Na'\].*2 elements"):
        Compositions.from_formulas(["NaCl", "FeO"]).dense([26, 8])


@given(small, small)
@settings(deadline=None)
def test_concatenate_and_table_round_trip(one, other):
    batch = concatenate([Compositions.from_dicts(one), Compositions.from_dicts(other)])
    assert dicts(batch) == one + other
    table = pa.table(batch.columns())
    assert dicts(Compositions.from_table(table)) == one + other
    assert dicts(Compositions.from_table(table.slice(len(one)))) == other
    assert (
        dicts(Compositions.from_table(pa.concat_tables([table, table.slice(1)]))) == (one + other) * 2
        if not (one + other)
        else one + other + (one + other)[1:]
    )


def test_sizes():
    batch = Compositions.from_dicts([{8: 3, 26: 2}, {}, {11: 70}])
    assert batch.n_elements.tolist() == [2, 0, 1]
    assert batch.n_atoms.tolist() == [5, 0, 70]
    assert batch.largest_count().tolist() == [3, 0, 70]
    assert batch.rows.tolist() == [0, 0, 2]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_empty_batches(n):
    """No composition at all, and compositions with no element."""
    batch = Compositions.from_dicts([{}] * n)
    assert len(batch) == n
    for same in (batch, batch.reduced(), concatenate([batch]), batch.take(np.arange(n)), batch.take(np.ones(n, bool))):
        assert dicts(same) == [{}] * n
    assert dicts(Compositions.from_dense(np.zeros((n, 2), np.uint8), [1, 8])) == [{}] * n
    assert dicts(Compositions.from_table(pa.table(batch.columns()))) == [{}] * n
    assert batch.dense([1, 8]).shape == (n, 2)
    assert batch.formulas().to_pylist() == [""] * n
    assert len(batch.hashes()) == n
    assert batch.n_atoms.tolist() == batch.largest_count().tolist() == batch.n_elements.tolist() == [0] * n
    first, inverse = batch.unique()
    assert first.tolist() == [0][:n] and inverse.tolist() == [0] * n
    assert batch.contained_in(Compositions.from_dicts([])).tolist() == [False] * n
    assert batch.contained_in(Compositions.from_dicts([{}])).tolist() == [True] * n
    assert batch.same_as(batch).tolist() == [True] * n


def test_concatenate_nothing():
    assert len(concatenate([])) == 0
    assert concatenate([]).formulas().to_pylist() == []


def test_isotopes_and_symbols():
    assert ATOMIC_NUMBERS["Og"] == 118 and len(SYMBOLS) == 118
    assert symbols("T2") == {"H": 2}
