"""Weights on disk: safetensors, with the check sum that the format lacks."""

import hashlib
import json
import os

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pipeline.tables import atomic

Tensors = dict[str, torch.Tensor]


def write_weights(path: str | os.PathLike, tensors: Tensors, about: dict) -> None:
    """Write tensors and what belongs to them (JSON values, in the order given), atomically and always alike."""
    said = json.dumps(about)
    kept = json.dumps({"about": said, "sha256": _digest(tensors, said)})
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, {"kimberlite": kept}))  # one key: several come in an order that changes


def read_weights(path: str | os.PathLike) -> tuple[Tensors, dict]:
    """Read what :func:`write_weights` wrote.

    Raises:
        ValueError: The file is missing, cut short, changed, or somebody else's.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            kept = json.loads((file.metadata() or {})["kimberlite"])
        if kept["sha256"] != _digest(tensors, kept["about"]):
            raise ValueError("its check sum differs")
        return tensors, json.loads(kept["about"])
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = "it is not ours" if isinstance(error, LookupError | TypeError) else " ".join(str(error).split())
        raise ValueError(f"{path}: no whole file of weights ({reason})") from error


def _digest(tensors: Tensors, said: str) -> str:
    return hashlib.sha256(save(tensors, {"about": said})).hexdigest()
