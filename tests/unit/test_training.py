"""The training stage: settings, data, the files it writes, and a run that is killed."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT, encode
from pipeline.generators import matgan
from pipeline.generators.checkpoints import FILE, Progress
from pipeline.tables import provenance, read, write, write_json
from pipeline.training.autoencoder import AutoencoderSettings, autoencode
from pipeline.training.data import count_matrices, training_tensors
from pipeline.training.settings import pick_device, settings_of
from pipeline.training.stage import EPOCH_SAMPLES, SAMPLES_PER_EPOCH, history_table, train
from pipeline.weights import read_weights

ELEMENTS = ["Li", "O", "Na", "Cl", "Fe"]
OVERRIDES = {"epochs": 2, "batch_size": 16}


def write_encoded(folder, n=60, held_out=lambda place: place % 5 == 0):
    """Entries, one of them beyond the box, and what the encoding stage makes of them."""
    random = np.random.default_rng(0)
    counts = random.integers(0, 9, (n, len(ELEMENTS)), dtype=np.uint8)
    ids = [f"id{place}" for place in range(n)]
    batch = Compositions.from_dense(np.vstack([counts, [9, 1, 0, 0, 0]]), [ATOMIC_NUMBERS[name] for name in ELEMENTS])
    nothing = {field.name: [None] * len(batch) for field in ENTRIES.fields}
    known = {"id": [*ids, "large"], "source": ["x"] * len(batch), "formula": batch.formulas(), **batch.columns()}
    write(folder / "entries.parquet", ENTRIES, nothing | known)
    write_json(folder / "vocabulary.json", {"elements": ELEMENTS})
    paths = {f"{name}_path": folder / f"{name}.parquet" for name in ("entries", "tensors")}
    encode(generator="matgan", settings={}, **paths, vocabulary_path=folder / "vocabulary.json", seed=1)
    # The split has another order.
    split = {"id": ["large", *ids[::-1]], "held_out": [True, *(held_out(place) for place in reversed(range(n)))]}
    split["held_out_system"] = [False] * len(batch)
    write(folder / "split.parquet", SPLIT, split)
    return counts


def run(folder, out="out", **changes):
    arguments = {
        "generator": "matgan",
        "preset": "default",
        "overrides": OVERRIDES,
        "tensors_path": folder / "tensors.parquet",
        "vocabulary_path": folder / "vocabulary.json",
        "split_path": folder / "split.parquet",
        "generator_path": folder / out / "generator.safetensors",
        "history_path": folder / out / "history.parquet",
        "epoch_samples_path": folder / out / "epoch_samples.parquet",
        "checkpoints": folder / out / "checkpoints",
        "seed": 1,
        "device": "cpu",
        "threads": 1,
        "provenance": {"code": "c0de", "stage": "training"},
    }
    train(**{**arguments, **changes})
    return folder / out


def names_in(path):
    return pq.read_schema(path).names


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_data(tmp_path):
    counts = write_encoded(tmp_path)
    entries, tensors, split = (tmp_path / f"{name}.parquet" for name in ("entries", "tensors", "split"))
    vocabulary = [3, 8, 11, 17, 26]
    held_out = np.arange(60) % 5 == 0
    found = training_tensors(tensors, split)
    assert {name: values.shape for name, values in found.items()} == {"counts": (48, 5)}
    assert found["counts"].dtype == np.uint8 and (found["counts"] == counts[~held_out]).all()
    trained, tested = count_matrices(entries, vocabulary, split)
    assert (trained == counts[~held_out]).all() and (tested == counts[held_out]).all()
    write_encoded(tmp_path, held_out=lambda place: True)
    for read_them in (lambda: training_tensors(tensors, split), lambda: count_matrices(entries, vocabulary, split)):
        with pytest.raises(ValueError, match=r"all 60 entries are held out; lower encoding\.holdout_share"):
            read_them()
    write_encoded(tmp_path, held_out=lambda place: False)
    assert len(training_tensors(tensors, split)["counts"]) == 60
    assert [len(matrix) for matrix in count_matrices(entries, vocabulary, split)] == [60, 0]
    write(split, SPLIT, {"id": ["id0"], "held_out": [False], "held_out_system": [False]})
    with pytest.raises(ValueError, match=r"split\.parquet: entry 'id1' is absent; rerun encoding"):
        training_tensors(tensors, split)


def test_settings():
    assert settings_of(matgan, "default", {}) == matgan.PRESETS["default"]
    changed = settings_of(matgan, "paper_oqmd", {"epochs": 3, "threshold": 0.4})
    assert changed == dataclasses.replace(matgan.PRESETS["paper_oqmd"], epochs=3, threshold=0.4)
    with pytest.raises(ValueError, match=r"training\.preset: 'paper' is unknown; .*paper_oqmd, paper_icsd_mp, default"):
        settings_of(matgan, "paper", {})
    with pytest.raises(ValueError, match=r"training\.settings: 'epoch' is unknown; .*epochs"):
        settings_of(matgan, "default", {"epoch": 3})


def test_paper_presets():
    """Batch size and rates as published."""
    oqmd, icsd = matgan.PRESETS["paper_oqmd"], matgan.PRESETS["paper_icsd_mp"]
    assert (oqmd.batch_size, icsd.batch_size) == (512, 32)
    for preset in (oqmd, icsd):
        assert (preset.epochs, preset.generator_rate, preset.critic_rate) == (1000, 1e-3, 1e-2)


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"training\.device: 'cuda' .* no GPU; write 'auto' or 'cpu'"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == "cuda" and pick_device("cpu") == "cpu"


def test_what_the_stage_writes(tmp_path):
    write_encoded(tmp_path)
    out = run(tmp_path)
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "epoch_samples.parquet",
        "generator.safetensors",
        "history.parquet",
    ]
    weights, about = read_weights(out / "generator.safetensors")
    matgan.Generator(len(ELEMENTS), "icsd_mp").load_state_dict(weights)
    assert (about["generator"], about["preset"], about["overrides"]) == ("matgan", "default", OVERRIDES)
    assert about["provenance"]["code"] == "c0de"
    names = [name for name in names_in(out / "history.parquet") if name != "epoch"]
    history = read(out / "history.parquet", history_table(names))
    assert history["epoch"].to_pylist() == [1, 2] and "critic_loss" in names
    samples = read(out / "epoch_samples.parquet", EPOCH_SAMPLES)
    assert set(samples["epoch"].to_pylist()) <= {1, 2} and samples.num_rows <= 2 * SAMPLES_PER_EPOCH
    assert len(Compositions.from_table(samples)) == samples.num_rows
    assert provenance(out / "history.parquet")["stage"] == "training"


@pytest.mark.usefixtures("each_epoch_saved")
@pytest.mark.parametrize("sampled", [(2, 4), ()])
def test_a_generator_says_at_which_epochs_it_draws(sampled, tmp_path, monkeypatch):
    """Epochs keep their numbers where only some are sampled, through a checkpoint too; or none is."""
    write_encoded(tmp_path)
    overrides = {"likelihood_epochs": 3, "adversarial_epochs": 1, "batch_size": 16, "width": 16}
    chosen = {"generator": "seqgan", "overrides": overrides}
    samples, save = Progress.samples, Progress._save

    def only_these(self, epoch, draw):
        if epoch + 1 in sampled:
            samples(self, epoch, draw)

    def save_and_die(self):
        save(self)
        if len(self.history) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "samples", only_these)
    expected = files(run(tmp_path, "whole", **chosen))
    drawn = read(tmp_path / "whole" / "epoch_samples.parquet", EPOCH_SAMPLES)
    assert drawn["epoch"].to_pylist() == [epoch for epoch in sampled for _ in range(SAMPLES_PER_EPOCH)]
    monkeypatch.setattr(Progress, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "killed", **chosen)
    monkeypatch.setattr(Progress, "_save", save)
    assert files(run(tmp_path, "killed", **chosen)) == expected


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    write_encoded(tmp_path)
    expected = files(run(tmp_path, "whole"))
    save = Progress._save

    def save_and_die(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "killed")
    monkeypatch.undo()
    assert not files(tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoints" / FILE).exists()
    assert files(run(tmp_path, "killed")) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"overrides": {**OVERRIDES, "critic_steps": 1}},
        {"provenance": {"code": "other"}},
        {"data": True},
    ],
)
def test_a_checkpoint_of_other_work_is_left_unused(tmp_path, changes, monkeypatch, capsys):
    write_encoded(tmp_path)
    run(tmp_path)
    if changes.pop("data", False):
        write_encoded(tmp_path, held_out=lambda place: place % 4 == 0)
    capsys.readouterr()
    out = run(tmp_path, **changes)
    assert "training starts afresh" in capsys.readouterr().err
    assert files(out) == files(run(tmp_path, "alone", **changes))


def end_at(monkeypatch, number, step):
    """The process gets a signal when it has recorded that many steps; SIGTERM twice, as Slurm sends it."""
    record, seen = Progress.record, []

    def record_and_signal(self, **values):
        record(self, **values)
        seen.append(self)
        if len(seen) == step:
            for _ in range(1 + (number == signal.SIGTERM)):
                os.kill(os.getpid(), number)

    monkeypatch.setattr(Progress, "record", record_and_signal)


@pytest.mark.parametrize("generator", ["matgan", "seqgan", "autoencoder"])
@pytest.mark.parametrize("number, step", [(signal.SIGTERM, 2), (signal.SIGINT, 5), (signal.SIGTERM, 8)])
def test_a_time_limit_saves_within_the_epoch(generator, number, step, tmp_path, monkeypatch, capsys):
    """48 formulas: MatGAN has 3 epochs of 4 steps, the sequence GAN 2 of 3 and 1 of 3, the autoencoder 3 of 3."""
    overrides = {
        "matgan": {"epochs": 3, "batch_size": 4, "critic_steps": 3},
        "seqgan": {"likelihood_epochs": 2, "adversarial_epochs": 1, "batch_size": 16, "width": 16},
    }
    write_encoded(tmp_path)

    def work(out):
        if generator != "autoencoder":
            return files(run(tmp_path, out, generator=generator, overrides=overrides[generator]))
        autoencode(
            settings=AutoencoderSettings("dense", epochs=3, batch_size=16, rate=1e-3),
            entries_path=tmp_path / "entries.parquet",
            vocabulary_path=tmp_path / "vocabulary.json",
            split_path=tmp_path / "split.parquet",
            reconstruction_path=tmp_path / out / "reconstruction.json",
            checkpoints=tmp_path / out / "checkpoints",
            seed=1,
            device="cpu",
            threads=1,
            provenance={"code": "c0de"},
        )
        return files(tmp_path / out)

    expected = work("whole")
    before = signal.getsignal(number)
    end_at(monkeypatch, number, step)
    with pytest.raises(SystemExit) as ended:
        work("ended")
    monkeypatch.undo()
    assert ended.value.code == 128 + number and signal.getsignal(number) == before
    epoch, within = divmod(step - 1, 4 if generator == "matgan" else 3)
    said = capsys.readouterr().err
    assert f"{number.name} at step {within + 1} of epoch {epoch + 1}: saved in {tmp_path}" in said
    assert not files(tmp_path / "ended")
    assert work("ended") == expected
    assert f"resuming after epoch {epoch} and {within + 1} steps" in capsys.readouterr().err
    checkpoint = (tmp_path / "ended" / "checkpoints" / FILE).read_bytes()
    assert checkpoint == (tmp_path / "whole" / "checkpoints" / FILE).read_bytes()
    for path in files(tmp_path / "ended"):  # the scheduler called it late, and Snakemake deleted them
        (tmp_path / "ended" / path).unlink()
    monkeypatch.setattr(Progress, "record", lambda self, **values: pytest.fail("trained again"))
    assert work("ended") == expected


def test_short_epochs_are_saved_together(monkeypatch):
    saved = []
    monkeypatch.setattr(Progress, "_save", lambda self: saved.append(len(self.history)) or setattr(self, "_saved", now))
    now = time.monotonic()
    progress = Progress(None, "", 1)
    for _ in progress.epochs(30, {}):
        progress.record(loss=torch.ones(()))
    assert saved == [1, 30]


def test_long_epochs_are_saved_in_between(tmp_path, monkeypatch):
    """A kill without warning costs what was done since the last save, not the epoch."""
    write_encoded(tmp_path)
    overrides = {**OVERRIDES, "batch_size": 4}
    expected = files(run(tmp_path, "whole", overrides=overrides))
    saved, save = [], Progress._save

    def save_and_die(self):
        save(self)
        saved.append(self._step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.generators.checkpoints.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(Progress, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "killed", overrides=overrides)
    monkeypatch.undo()
    assert saved == [1, 2]
    assert files(run(tmp_path, "killed", overrides=overrides)) == expected


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from test_training import run
run(Path({folder!r}), sys.argv[1])
"""


def test_other_processes_write_the_same_bytes(tmp_path, root):
    """Hash seeds and the order of anything unordered differ from process to process; the files do not."""
    write_encoded(tmp_path)
    script = SCRIPT.format(tests=str(root / "tests" / "unit"), root=str(root), folder=str(tmp_path))
    expected = files(run(tmp_path, "here"))
    subprocess.run([sys.executable, "-c", script, "there"], check=True, capture_output=True)
    assert files(tmp_path / "there") == expected
