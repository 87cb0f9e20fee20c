"""Selection part by part against its definition, written as plainly as Python allows."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.screening import select
from pipeline.screening.schema import PREDICTED

N_PARTS = 5


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """Many formulas of few systems, energies of few values: ties within and between systems, some without a score."""
    folder = tmp_path_factory.mktemp("candidates")
    random = np.random.default_rng(0)
    batch = Compositions.from_dense(random.integers(0, 3, (3000, 5)), [3, 8, 64, 65, 90])
    batch = batch.take(batch.n_elements > 0).reduced()
    batch = batch.take(batch.unique()[0])
    batch = batch.take(random.permutation(len(batch)))
    n = len(batch)
    unscored = random.random(n) < 0.1
    energy, width = random.integers(-3, 1, n) / 2, random.integers(1, 3, n) / 4
    data = {"id": batch.formulas(), "n_drawn": np.ones(n, np.int32), **batch.columns()}
    data |= {"verdict": ["balanced"] * n, "is_known": random.random(n) < 0.2}
    for name, values in (
        ("formation_energy_ev_per_atom", energy),
        ("formation_energy_uncertainty_ev_per_atom", width),
        ("probability_nonmetal", np.ones(n)),
        ("band_gap_ev", np.ones(n)),
        ("band_gap_uncertainty_ev", np.ones(n)),
    ):
        data[name] = pa.array(values, mask=unscored)
    types = {field.name: field.type for field in PREDICTED.fields}
    data |= {name: pa.nulls(n, types[name]) for name in ("oxidation_states", "unscored_because")}
    whole = pa.table({name: pa.array(data[name], type=types[name]) for name in types})
    bounds = [0, *np.sort(random.integers(0, n, N_PARTS - 1)).tolist(), n]
    for number in range(N_PARTS):
        part = whole.slice(bounds[number], bounds[number + 1] - bounds[number])
        tables.write(folder / f"predicted-{number}.parquet", PREDICTED, part)
    known = Compositions.from_formulas(["Li2O"])
    entries = {"id": ["a"], "source": ["x"], "formula": ["Li2O"], **known.columns()}
    entries |= {name: [None] for name in ENTRIES.schema.names if name not in entries}
    tables.write(folder / "entries.parquet", ENTRIES, {name: entries[name] for name in ENTRIES.schema.names})
    return folder, whole.to_pylist()


def fates(rows: list[dict], max_per_chemical_system: int | None, n_selected: int) -> dict[str, str | int]:
    """Rank or reason of each row, by definition."""
    fate = {row["id"]: "known" if row["is_known"] else "unscored" for row in rows}
    left = [row for row in rows if not row["is_known"] and row["band_gap_ev"] is not None]
    energies = ("formation_energy_ev_per_atom", "formation_energy_uncertainty_ev_per_atom")
    better, ranked = Counter(), 0
    for row in sorted(left, key=lambda row: (sum(row[name] for name in energies), row["id"])):
        system = frozenset(row["elements"])
        if max_per_chemical_system is not None and better[system] >= max_per_chemical_system:
            fate[row["id"]] = "max_per_chemical_system"
        else:
            ranked += 1
            fate[row["id"]] = ranked if ranked <= n_selected else "n_selected"
        better[system] += 1
    return fate


@pytest.mark.parametrize("merged_rows", [1, 100, 1 << 18])
@pytest.mark.parametrize(("limit", "n_selected"), [(None, 10), (None, 10**6), (1, 10), (2, 25), (3, 10**6)])
def test_every_row_meets_the_fate_of_the_definition(candidates, tmp_path, monkeypatch, limit, n_selected, merged_rows):
    folder, rows = candidates
    monkeypatch.setattr(select, "_MERGED_ROWS", merged_rows)
    screened = [tmp_path / f"screened-{number}.parquet" for number in range(N_PARTS)]
    select.select(
        predicted_paths=[folder / f"predicted-{number}.parquet" for number in range(N_PARTS)],
        entries_path=folder / "entries.parquet",
        screened_paths=screened,
        selected_path=tmp_path / "selected.parquet",
        cutoffs=select.Cutoffs(
            require_novel=True,
            excluded_elements=[],
            max_atoms=None,
            max_formation_energy_ev_per_atom=None,
            max_formation_energy_uncertainty_ev_per_atom=None,
            min_band_gap_ev=None,
            max_band_gap_ev=None,
            max_per_chemical_system=limit,
            n_selected=n_selected,
        ),
    )
    expected = fates(rows, limit, n_selected)
    found = [row for path in screened for row in tables.read(path, select.SCREENED).to_pylist()]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert {row["id"]: row["rejected_by"] or row["rank"] for row in found} == expected
    ranks = sorted((rank, id_) for id_, rank in expected.items() if isinstance(rank, int))
    assert tables.read(tmp_path / "selected.parquet", select.SELECTED)["id"].to_pylist() == [id_ for _, id_ in ranks]
