"""Two processes that share each batch end where one process ends; they are started, stopped and resumed as users do."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from test_training import files, run, write_encoded

from pipeline.generators import matgan, parallel
from pipeline.training.launch import number_of
from pipeline.weights import read_weights

# 48 formulas; 7 and 16 in a batch: shares of unequal and of equal size, and a last part of a single formula.
SEQGAN = {"likelihood_epochs": 2, "adversarial_epochs": 2, "batch_size": 47, "width": 16, "critic_dropout": 0.0}
MATGAN = {"epochs": 2, "batch_size": 7, "critic_steps": 2, "generator_rate": 1e-4, "critic_rate": 1e-4}
IN_DOUBLE_PRECISION = """
import torch
from pipeline.generators import matgan
from pipeline.training import worker
torch.set_default_dtype(torch.float64)  # in single, Adam makes whole steps of gradients that are rounding alone
matgan.multiplies_bfloat16 = lambda device: False
worker.main()
"""


def weights_and_history(out):
    weights, _ = read_weights(out / "generator.safetensors")
    return weights, pq.read_table(out / "history.parquet").to_pydict()


def check_same(one, other, tolerance=1e-8):
    (weights, history), (weights_again, history_again) = map(weights_and_history, (one, other))
    assert weights.keys() == weights_again.keys() and history.keys() == history_again.keys()
    for name, value in weights.items():
        if value.is_floating_point():
            assert (value - weights_again[name]).abs().max() < tolerance, name
        else:
            assert value.equal(weights_again[name]), name
    for name, values in history.items():
        assert np.array(values, float) == pytest.approx(np.array(history_again[name], float), rel=1e-8, nan_ok=True), (
            name
        )


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("generator", "overrides"),
    [
        ("seqgan", SEQGAN),
        ("matgan", {**MATGAN, "constraint": "weight_clipping"}),
        ("matgan", {**MATGAN, "constraint": "gradient_penalty"}),
    ],
)
def test_two_processes_equal_one(generator, overrides, tmp_path, root, monkeypatch):
    """BatchNorm sees the whole batch, the penalty is between the same pairs, one process may have no row at all."""
    write_encoded(tmp_path)
    chosen = {"generator": generator, "overrides": overrides}
    monkeypatch.setattr(matgan, "multiplies_bfloat16", lambda device: False)
    torch.set_default_dtype(torch.float64)
    try:
        alone = run(tmp_path, "alone", **chosen)
    finally:
        torch.set_default_dtype(torch.float32)
    told = {}
    monkeypatch.setattr("pipeline.training.stage.launch", lambda arguments, *_: told.update(arguments))
    run(tmp_path, "together", **chosen, processes=2)
    (tmp_path / "arguments.json").write_text(json.dumps(told, default=str))
    (tmp_path / "worker.py").write_text(IN_DOUBLE_PRECISION)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, tmp_path / "worker.py", tmp_path / "arguments.json"], check=True, env=environment)
    check_same(alone, tmp_path / "together")


def test_dropout_and_a_checkpoint_of_fewer_processes(tmp_path, capfd):
    """Masks of each process's own leave what they share in step; two go on where one ended."""
    write_encoded(tmp_path)
    settings = {**SEQGAN, "critic_dropout": 0.2}
    first = run(tmp_path, generator="seqgan", overrides=settings)
    expected = files(first)
    for path in expected:
        (first / path).unlink()
    capfd.readouterr()
    assert files(run(tmp_path, generator="seqgan", overrides=settings, processes=2)) == expected
    assert capfd.readouterr().err.count("resuming after epoch 4") == 1
    assert not (first / "checkpoints" / "arguments.json").exists()
    drawn = run(tmp_path, "dropout", generator="seqgan", overrides=settings, processes=2)
    assert "48 examples on 2 times cpu" in capfd.readouterr().err
    assert files(run(tmp_path, "again", generator="seqgan", overrides=settings, processes=2)) == files(drawn)


WHOLE = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from test_training import run
run(Path({folder!r}), "ended", generator="seqgan", overrides={overrides!r}, processes=2)
"""


def test_a_time_limit_ends_all_and_they_go_on_together(tmp_path, root, capfd):
    write_encoded(tmp_path)
    overrides = {**SEQGAN, "likelihood_epochs": 1500, "batch_size": 16}
    script = WHOLE.format(tests=str(root / "tests/unit"), root=str(root), folder=str(tmp_path), overrides=overrides)
    job = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "ended" / "checkpoints" / "last.safetensors"
    until = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.1)
    for _ in range(2):
        job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 128 + signal.SIGTERM and not files(tmp_path / "ended")
    assert said.count("SIGTERM at step") == 1 and f"saved in {checkpoint}" in said
    _, about = read_weights(checkpoint)
    assert 0 < len(about["history"]) < 1502


def test_a_mistake_of_the_user_is_one_line(tmp_path):
    write_encoded(tmp_path)
    with pytest.raises(ValueError, match=r"^training diverged in epoch 1 .*lower training\.settings' learning rates$"):
        run(tmp_path, overrides={**MATGAN, "critic_rate": 1e30}, processes=2)


def test_a_generator_of_one_process_says_so(tmp_path, monkeypatch, capsys):
    write_encoded(tmp_path)
    monkeypatch.delattr(matgan, "DATA_PARALLEL")
    run(tmp_path, processes=2)
    assert "matgan trains in one process: training.processes and training.nodes are left out" in capsys.readouterr().err


def test_nodes_are_of_slurm(tmp_path, monkeypatch):
    write_encoded(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ValueError, match=r"training\.nodes: 2 nodes are a Slurm job's; .* write 1"):
        run(tmp_path, nodes=2)


def test_a_slurm_job_of_several_nodes(tmp_path, monkeypatch):
    """torchrun once a node, with the cores that the job has there, and all meet at the first."""
    command = tmp_path / "srun"
    command.write_text(f"#!/bin/sh\necho $@ > {tmp_path}/said\n")
    command.chmod(0o755)
    monkeypatch.setenv("SLURM_JOB_ID", "12345")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    write_encoded(tmp_path)
    run(tmp_path, threads=2, processes=3, nodes=2)
    said = (tmp_path / "said").read_text()
    assert "--overlap --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=5" in said
    assert "--nproc-per-node=3 --nnodes=2 --rdzv-backend=c10d --rdzv-id=12345" in said
    assert f"--rdzv-endpoint={socket.gethostname()}:22345" in said


def test_threads_are_of_each_process(tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr("pipeline.training.stage.launch", lambda arguments, *_: told.update(arguments))
    write_encoded(tmp_path)
    run(tmp_path, threads=6, processes=2)
    assert told["threads"] == 6


def test_number_of_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3})
    assert (number_of("auto", "cpu"), number_of(3, "cpu")) == (1, 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert (number_of("auto", "cuda"), number_of(2, "cuda"), number_of("auto", "cpu")) == (4, 2, 1)
    with pytest.raises(ValueError, match=r"training\.processes: 8 are asked for, and torch sees 4 GPUs"):
        number_of(8, "cuda")
    with pytest.raises(ValueError, match=r"training\.processes: 5000 .* may use 3 cores; write 'auto', or at most 3"):
        number_of(5000, "cpu")


def test_alone_nothing_is_shared():
    rows = torch.arange(6.0)
    assert parallel.mine(rows).equal(rows) and parallel.total(rows) is rows and parallel.largest(7) == 7
    assert parallel.sum_gradients(torch.nn.Linear(2, 2), rows.sum()) == (rows.sum(),)
    settings = dataclasses.asdict(matgan.PRESETS["default"])
    assert MATGAN.keys() <= settings.keys()
