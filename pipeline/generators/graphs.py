"""A step of training as one CUDA graph: on a GPU, small networks wait for the launch of their kernels."""

import sys
from collections.abc import Callable

import torch
from torch import nn

from pipeline.generators import parallel

Step = Callable[[], dict[str, torch.Tensor]]


def captured(step: Step, state: dict[str, nn.Module | torch.optim.Optimizer], device: str) -> Step:
    """The step as a graph that is captured at its first call, or as it is: on a CPU, or among several processes.

    Args:
        step: Takes nothing, waits for nothing on the device, and returns figures; the graph returns the same tensors
            with new values at each call.
        state: All networks and optimizers (with ``capturable``) that the step changes.
        device: ``cpu`` or ``cuda``.
    """
    if device != "cuda" or parallel.size() > 1:
        return step
    graph, figures, run = torch.cuda.CUDAGraph(), {}, None

    def replay() -> dict[str, torch.Tensor]:
        graph.replay()
        return figures

    def first_or_next() -> dict[str, torch.Tensor]:
        nonlocal run
        if run is None:
            try:
                figures.update(_capture(graph, step, state))
                run = replay
            except RuntimeError as error:
                print(f"no CUDA graph ({error}): training goes on step by step, slower", file=sys.stderr)
                run = step
        return run()

    return first_or_next


def _capture(graph: torch.cuda.CUDAGraph, step: Step, state) -> dict[str, torch.Tensor]:
    """Warm up, put back what that changed, and capture; nothing of the step is done."""
    before = {name: value.clone() for name, value in _tensors(state).items()}
    random = torch.cuda.get_rng_state()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.no_grad():
        for name, value in _tensors(state).items():
            if name in before:
                value.copy_(before[name])
            else:  # an optimizer's, before its first step
                value.zero_()
    torch.cuda.set_rng_state(random)
    for part in state.values():
        part.zero_grad()
    with torch.cuda.graph(graph):
        return step()


def _tensors(state) -> dict[str, torch.Tensor]:
    found = {}
    for name, part in state.items():
        if isinstance(part, nn.Module):
            found |= {f"{name}/{key}": value.detach() for key, value in part.state_dict().items()}
        else:
            weights = [weight for group in part.param_groups for weight in group["params"]]
            for place, weight in enumerate(weights):
                found |= {f"{name}/{place}/{key}": value for key, value in part.state.get(weight, {}).items()}
    return found
