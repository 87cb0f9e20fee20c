"""Weights on disk: what is read is what was written, or a line that says why not."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.weights import read_weights, write_weights

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.uint8), "c": torch.zeros(0)}
ABOUT = {"z": [1, None], "a": {"seed": 3, "name": "π"}}


def test_round_trip_and_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("one", "two")]
    write_weights(paths[0], TENSORS, ABOUT)
    write_weights(paths[1], dict(reversed(TENSORS.items())), ABOUT)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    tensors, about = read_weights(paths[0])
    assert about == ABOUT and tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[name], TENSORS[name]) and tensors[name].dtype == TENSORS[name].dtype for name in TENSORS
    )


def test_every_flipped_bit_is_seen(tmp_path):
    """Or changes nothing: spaces that pad the header stand for nothing."""
    path = tmp_path / "weights"
    write_weights(path, TENSORS, ABOUT)
    whole = path.read_bytes()
    accepted = 0
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                tensors, about = read_weights(path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: no whole file of weights (") and "\n" not in str(error)
            else:
                accepted += 1
                assert about == ABOUT and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert accepted < len(whole)


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(8)])
def test_no_weights(tmp_path, content):
    (tmp_path / "weights").write_bytes(content)
    for name in ("weights", "nowhere"):
        with pytest.raises(ValueError, match=rf"{name}: no whole file of weights"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"kimberlite": "[]"}, {"kimberlite": "{}"}])
def test_somebody_else_s(tmp_path, metadata):
    save_file(TENSORS, tmp_path / "weights", metadata)
    with pytest.raises(ValueError, match="it is not ours"):
        read_weights(tmp_path / "weights")


def test_not_finite_values_come_back(tmp_path):
    odd = torch.tensor([np.nan, np.inf, -0.0])
    write_weights(tmp_path / "weights", {"odd": odd}, {})
    assert read_weights(tmp_path / "weights")[0]["odd"].numpy().tobytes() == odd.numpy().tobytes()
