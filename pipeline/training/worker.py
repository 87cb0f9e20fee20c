"""One of several processes that train together: ``python -m pipeline.training.worker ARGUMENTS``, under torchrun."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.training.launch import ERROR
from pipeline.training.stage import train_here


def main() -> None:
    """Meet the others and train; a user's mistake is left as a line beside the arguments."""
    path = Path(sys.argv[1])
    arguments = json.loads(path.read_text())
    if arguments["device"] == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if arguments["device"] == "cuda" else "gloo")
    try:
        train_here(**arguments)
    except (ValueError, OSError, MemoryError) as error:
        (path.parent / ERROR).write_text(" ".join(str(error).split()))
        raise
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
