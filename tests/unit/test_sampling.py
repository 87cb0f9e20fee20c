"""Drawing by blocks and collecting by hash: the same samples whatever the number of jobs, none lost, none twice."""

import numpy as np
import pytest
import torch

from pipeline.cells import CELL_COLUMNS, Cell, from_table, structure_hash
from pipeline.composition import Compositions, parse_formula
from pipeline.generators import Batch, crystalgan, matgan
from pipeline.generators.checkpoints import Progress, weights_of
from pipeline.provenance import derived_seed
from pipeline.sampling import DRAWN, SAMPLES, collect, draw, partition_of
from pipeline.tables import read, read_json, write_json
from pipeline.training.settings import settings_of
from pipeline.weights import read_weights, write_weights

ELEMENTS = ["O", "Na", "Al", "Cl", "Fe"]
N_SAMPLES, BLOCK = 950, 100
OVERRIDES = {"threshold": 0.5}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A tiny MatGAN that was never trained, scaled so that some of its draws are ambiguous and some empty."""
    folder = tmp_path_factory.mktemp("generator")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = matgan.Generator(len(ELEMENTS), "icsd_mp").eval()
    last = network.blocks[-2]
    with torch.no_grad():
        inner = network.blocks[:-2](network.dense(torch.randn(100, matgan.NOISE)).view(-1, *network.start))
        last.weight /= last(inner).std()
        last.bias.fill_(-2)
    about = {"generator": "matgan", "preset": "default", "overrides": OVERRIDES}
    write_weights(folder / "generator.safetensors", weights_of(network), about)
    write_json(folder / "vocabulary.json", {"elements": ELEMENTS})
    return folder


def sampled(generator, folder, jobs, partitions=2, n_samples=N_SAMPLES, seed=1, **changes):
    """Run all jobs; returns the paths of the parts and the counts of the jobs."""
    drawn, counts, parts = [], [], []
    for job in range(jobs):
        drawn.append(folder / f"job-{job}-of-{jobs}.parquet")
        arguments = {
            "generator_path": generator / "generator.safetensors",
            "vocabulary_path": generator / "vocabulary.json",
            "drawn_path": drawn[-1],
            "counts_path": folder / f"job-{job}.json",
            "n_samples": n_samples,
            "block_size": BLOCK,
            "partitions": partitions,
            "job": job,
            "jobs": jobs,
            "seed": seed,
            "device": "cpu",
        }
        draw(**{**arguments, **changes})
        counts.append(read_json(folder / f"job-{job}.json"))
    for partition in range(partitions):
        parts.append(folder / f"part-{partition}-of-{jobs}.parquet")
        collect(drawn_paths=drawn, samples_path=parts[-1], partition=partition)
    return parts, counts


def together(counts):
    return {name: sum(count[name] for count in counts) for name in counts[0]}


def test_parts_are_the_same_bytes_whatever_the_number_of_jobs(generator, tmp_path):
    parts, counts = sampled(generator, tmp_path, 1)
    for jobs in (2, 3, 14):  # the last: more jobs than blocks
        others, more = sampled(generator, tmp_path, jobs)
        assert [path.read_bytes() for path in others] == [path.read_bytes() for path in parts]
        assert together(more) == together(counts)


def test_counts_add_up(generator, tmp_path):
    parts, counts = sampled(generator, tmp_path, 2)
    total = together(counts)
    assert total["drawn"] == N_SAMPLES
    assert min(total["ambiguous"], total["empty"]) > 0, "the generator of this test should show both"
    n_drawn = sum(sum(read(path, SAMPLES)["n_drawn"].to_pylist()) for path in parts)
    assert n_drawn == N_SAMPLES - total["ambiguous"] - total["empty"]
    n_rows = sum(read(path, SAMPLES).num_rows for path in parts)
    assert 10 < n_rows < n_drawn


def test_samples_are_what_the_generator_draws(generator, tmp_path):
    """Counted by hand from the blocks' own draws."""
    parts, _ = sampled(generator, tmp_path, 3, partitions=4)
    weights, _ = read_weights(generator / "generator.safetensors")
    settings = settings_of(matgan, "default", OVERRIDES)
    expected = {}
    for block in range(10):
        size = min(BLOCK, N_SAMPLES - block * BLOCK)
        batch = matgan.draw(weights, [8, 11, 13, 17, 26], settings, size, derived_seed(1, "sampling", block), "cpu")
        for formula in batch.compositions.formulas().to_pylist():
            expected[formula] = expected.get(formula, 0) + 1
    found = {}
    for path in parts:
        for row in read(path, SAMPLES).to_pylist():
            assert row["id"] not in found, "a sample lies in one partition only"
            found[row["id"]] = row["n_drawn"]
            assert parse_formula(row["id"]) == dict(zip(row["elements"], row["counts"], strict=True))
            assert np.gcd.reduce(row["counts"]) == 1
    assert found == expected


def test_partition_is_the_hash(generator, tmp_path):
    parts, _ = sampled(generator, tmp_path, 1, partitions=3)
    for partition, path in enumerate(parts):
        batch = Compositions.from_table(read(path, SAMPLES))
        assert (partition_of(batch, 3) == partition).all()
        assert (np.diff(batch.hashes().astype(object)) > 0).all()


def test_seed_matters_and_more_samples_begin_alike(generator, tmp_path):
    first = read(sampled(generator, tmp_path, 1, 1)[0][0], SAMPLES)
    again = read(sampled(generator, tmp_path, 1, 1, seed=2)[0][0], SAMPLES)
    assert first["id"].to_pylist() != again["id"].to_pylist()
    more = read(sampled(generator, tmp_path, 1, 1, n_samples=1500)[0][0], SAMPLES)
    assert set(first["id"].to_pylist()) <= set(more["id"].to_pylist())


def test_fewer_samples_than_partitions(generator, tmp_path):
    parts, counts = sampled(generator, tmp_path, 2, partitions=50, n_samples=3)
    assert together(counts)["drawn"] == 3
    assert sum(read(path, SAMPLES).num_rows for path in parts) <= 3


def test_partitions_of_more_rows_than_a_row_group(generator, tmp_path, monkeypatch):
    """600,000 distinct compositions in two partitions: none is lost, each is in its partition."""
    place = np.arange(600_000)
    columns = [place % 100 + 1, place // 100 % 100 + 1, place // 10_000 + 1, np.full_like(place, 101)]
    every = Compositions.from_dense(np.column_stack(columns), [8, 11, 13, 26])
    monkeypatch.setattr(matgan, "draw", lambda *arguments: Batch(every, len(every), 0, 0))
    parts, _ = sampled(generator, tmp_path, 1, n_samples=BLOCK)
    batches = [Compositions.from_table(read(path, SAMPLES, ["elements", "counts"])) for path in parts]
    assert sum(map(len, batches)) == 600_000
    for partition, batch in enumerate(batches):
        assert (partition_of(batch, 2) == partition).all()


@pytest.mark.parametrize("end", [0, 5, 100, -10])
def test_truncated_weights(generator, tmp_path, end):
    path = tmp_path / "generator.safetensors"
    path.write_bytes((generator / "generator.safetensors").read_bytes()[:end])
    with pytest.raises(ValueError, match=r"generator\.safetensors: no whole file of weights"):
        sampled(generator, tmp_path, 1, generator_path=path)


def test_missing_weights(generator, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no whole file of weights"):
        sampled(generator, tmp_path, 1, generator_path=tmp_path / "nowhere")


def test_damaged_draws_are_named(generator, tmp_path):
    sampled(generator, tmp_path, 1)
    path = tmp_path / "job-0-of-1.parquet"
    assert read(path, DRAWN).num_rows
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"job-0-of-1\.parquet: not a whole Parquet file"):
        collect(drawn_paths=[path], samples_path=tmp_path / "part", partition=0)
    assert not (tmp_path / "part").exists()


def test_compositions_have_no_cells(generator, tmp_path):
    parts, _ = sampled(generator, tmp_path, 2)
    for path in [*parts, tmp_path / "job-0-of-2.parquet"]:
        table = read(path, SAMPLES if path in parts else DRAWN)
        assert len(table) and all(table[field.name].null_count == len(table) for field in CELL_COLUMNS)


# Crystals -------------------------------------------------------------------------------------------------------------


def salts(n: int, seed: int) -> Batch:
    """A few crystals drawn again and again, as they are, turned, with sites in another order, or a hair larger."""
    random = np.random.default_rng(seed)
    cells, turn = [], np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
    for kind, form, nudge in zip(*random.integers(0, 4, (2, n)), random.integers(0, 3, n), strict=True):
        sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.25, 0, 0]])[: 2 + kind // 2]
        z = np.array([(11, 17, 17, 17), (19, 17, 17, 17)][kind % 2][: len(sites)], dtype=np.uint8)
        order = random.permutation(len(sites)) if form == 2 else np.arange(len(sites))
        lattice = (3.0 + kind + 1e-7 * nudge + 0.5 * (form == 3)) * np.eye(3)
        cells.append(Cell(lattice @ turn if form == 1 else lattice, z[order], sites[order]))
    amounts = [dict(zip(*np.unique(cell.elements, return_counts=True), strict=True)) for cell in cells]
    amounts = [{int(z): int(count) for z, count in amount.items()} for amount in amounts]
    return Batch(Compositions.from_dicts(amounts), n, 0, 0, cells)


def test_crystals_are_distinct_by_composition_and_hash(generator, tmp_path, monkeypatch):
    """Each crystal once, as often as drawn, under an id of its own; the same bytes whatever the number of jobs."""
    monkeypatch.setattr(matgan, "draw", lambda weights, vocabulary, settings, n, seed, device: salts(n, seed))
    expected = {}
    for block in range(10):
        batch = salts(min(BLOCK, N_SAMPLES - block * BLOCK), derived_seed(1, "sampling", block))
        for formula, cell in zip(batch.compositions.formulas().to_pylist(), batch.cells, strict=True):
            name = f"{formula}-{structure_hash(cell)}"
            expected[name] = expected.get(name, 0) + 1
    assert len(expected) == 8, "four crystals of four compositions, each in two sizes"
    parts, _ = sampled(generator, tmp_path, 1)
    found, formulas = {}, []
    for path in parts:
        table = read(path, SAMPLES)
        for row, cell in zip(table.to_pylist(), from_table(table), strict=True):
            formula, name = row["id"].split("-")
            assert name == structure_hash(cell)
            amounts = dict(zip(row["elements"], row["counts"], strict=True))
            assert parse_formula(formula) == amounts
            assert {z: list(cell.elements).count(z) for z in amounts} == amounts
            found[row["id"]] = row["n_drawn"]
            formulas.append((path, formula))
    assert found == expected and sum(found.values()) == N_SAMPLES
    assert len(set(formulas)) == len({formula for _, formula in formulas}) == 4, "a composition lies in one part"
    for jobs in (2, 3, 14):
        others, _ = sampled(generator, tmp_path, jobs)
        assert [path.read_bytes() for path in others] == [path.read_bytes() for path in parts]


def test_no_crystal_at_all(generator, tmp_path, monkeypatch):
    nothing = Compositions.from_dicts([])
    monkeypatch.setattr(matgan, "draw", lambda weights, vocabulary, settings, n, *rest: Batch(nothing, n, 0, n, []))
    parts, counts = sampled(generator, tmp_path, 2)
    assert together(counts) == {"drawn": N_SAMPLES, "ambiguous": 0, "empty": N_SAMPLES}
    assert [len(read(path, SAMPLES)) for path in parts] == [0, 0]


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    """A CrystalGAN trained for an epoch on four sizes of rock salt of each of two hydrides."""
    folder = tmp_path_factory.mktemp("crystals")
    torch.set_num_threads(1)
    tensor, occupied = np.zeros((8, 4, 18, 3)), np.zeros((8, 3, 18), np.uint8)
    face = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    for row in range(8):
        size, metal = 4.0 + 0.1 * (row % 4), 2 + row // 4
        tensor[row, 0, :3] = size * np.eye(3)
        tensor[row, 1, :4], tensor[row, metal, :4] = size * face, size * ((face + np.array([0.5, 0, 0])) % 1)
        occupied[row, [0, metal - 1], :4] = 1
    columns = {
        "tensor": tensor,
        "occupied": occupied,
        "elements": np.array([[1, 46, 28]] * 8, np.uint8),
        "domain": np.repeat(np.array([0, 1], np.uint8), 4)[:, None],
        "pair": np.zeros((8, 1), np.uint8),
    }
    overrides = {"epochs": 1}
    settings = settings_of(crystalgan, "default", overrides)
    progress = Progress(None, "", 1)
    vocabulary = {"vocabulary": [1, 28, 46], "seed": 1, "device": "cpu"}
    weights = crystalgan.train(columns, settings=settings, progress=progress, **vocabulary)
    about = {"generator": "crystalgan", "preset": "default", "overrides": overrides}
    write_weights(folder / "generator.safetensors", weights, about)
    write_json(folder / "vocabulary.json", {"elements": ["H", "Ni", "Pd"]})
    return folder


def test_crystalgan_s_crystals_are_the_same_bytes_whatever_the_number_of_jobs(crystals, tmp_path):
    parts, counts = sampled(crystals, tmp_path, 1, n_samples=250)
    tables = [read(path, SAMPLES) for path in parts]
    total = together(counts)
    assert total["drawn"] == 250 and total["empty"] < 250
    assert sum(sum(table["n_drawn"].to_pylist()) for table in tables) == 250 - total["empty"]
    cells = [cell for table in tables for cell in from_table(table)]
    assert len(cells) and all(np.isfinite(cell.lattice).all() and set(cell.elements) <= {1, 28, 46} for cell in cells)
    others, more = sampled(crystals, tmp_path, 3, n_samples=250)
    assert [path.read_bytes() for path in others] == [path.read_bytes() for path in parts]
    assert together(more) == total
