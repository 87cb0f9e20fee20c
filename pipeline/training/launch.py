"""Training in several processes: torchrun starts them, on this machine or on each node of a Slurm job."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

ERROR = "error.txt"


def number_of(processes: int | str, device: str) -> int:
    """Processes on each node: as many as are asked for, or ``auto``: one for each GPU that is seen, one on a CPU.

    Raises:
        ValueError: More are asked for than there are GPUs, or cores where there are none.
    """
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    if processes == "auto":
        return max(1, gpus)
    if gpus and processes > gpus:
        raise ValueError(
            f"training.processes: {processes} are asked for, and torch sees {gpus} GPUs; write 'auto', or raise the "
            "number in cluster.gpu"
        )
    cores = len(os.sched_getaffinity(0))
    if not gpus and processes > cores:
        raise ValueError(
            f"training.processes: {processes} are asked for, and this job may use {cores} cores; write 'auto', or at "
            f"most {cores}"
        )
    return processes


def launch(arguments: dict, folder: Path, processes: int, nodes: int) -> None:
    """Run ``pipeline.training.worker`` in so many processes on each node, and wait.

    What they say goes where this process's stderr goes, a SIGTERM goes to them.

    Args:
        arguments: For :func:`pipeline.training.stage.train_here`; what JSON can say, and paths.
        folder: Takes the arguments, and the error if there is one; all nodes see it.
        processes: On each node.
        nodes: More than one only within a Slurm job of as many.

    Raises:
        ValueError: What a process raised, on a line, or that they ended otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told, error = folder / "arguments.json", folder / ERROR
    told.write_text(json.dumps(arguments, default=str))
    error.unlink(missing_ok=True)
    # Slurm refuses a step that asks for more cores than its job was given, whatever was reckoned here.
    cores = int(os.environ.get("SLURM_CPUS_PER_TASK", processes * arguments["threads"]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *_meeting(nodes)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments["threads"]), "PYTHONPATH": _with(root)}
    running = subprocess.Popen(
        [*_srun(nodes, cores), *torchrun, "-m", "pipeline.training.worker", str(told)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    ended_by = []

    def pass_on(number: int, frame: object) -> None:
        if not ended_by:  # Slurm sends it twice; torchrun gives the processes time after the first
            running.send_signal(number)
        ended_by.append(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        while said := running.stdout.read1():
            sys.stderr.write(said.decode(errors="replace"))
        status = running.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        if running.poll() is None:
            running.terminate()
            running.wait()
    if ended_by:
        sys.exit(128 + ended_by[0])
    if status:
        raise ValueError(error.read_text() if error.exists() else f"torchrun ended with {status}; its words are above")
    told.unlink()


def _meeting(nodes: int) -> list[str]:
    """How torchrun's agents find each other; on several nodes at this one, at a port that the job's number chooses."""
    if nodes == 1:
        return ["--standalone"]
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise ValueError(f"training.nodes: {nodes} nodes are a Slurm job's; use `--profile slurm`, or write 1")
    place = f"{socket.gethostname()}:{20000 + int(job) % 10000}"
    return [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-id={job}", f"--rdzv-endpoint={place}"]


def _srun(nodes: int, cores: int) -> list[str]:
    """Once on each node, beside the step that this process is in."""
    if nodes == 1:
        return []
    count = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}"]
    return ["srun", "--overlap", *count]


def _with(root: str) -> str:
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
