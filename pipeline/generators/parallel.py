"""Several processes that train one network: torchrun starts them, each takes its share of every batch.

All draw the same random numbers, for the whole batch, and take their own rows of them; gradients and the statistics of
BatchNorm are summed over all. So they end where one process with the same batch would, but for the order of sums.
Without torchrun, there is one process, and nothing here costs anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 alone writes and speaks."""
    return dist.get_rank() if size() > 1 else 0


def mine(rows: torch.Tensor) -> torch.Tensor:
    """This process's share of the rows of a batch: every ``size()``-th, so that a sorted batch is shared evenly."""
    return rows[rank() :: size()]


def sum_gradients(network: nn.Module, *figures: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Add up the gradients of all processes, in place, and return the sums of the figures; all in one message.

    Losses are sums over the process's rows, divided by the size of the whole batch, so that a sum of them is the mean.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:  # nothing of the batch reached it, here or at all
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
    if size() == 1:
        return figures
    parts = [*(weight.grad for weight in weights), *(figure.detach() for figure in figures)]
    message = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(message)
    sums = message.split([part.numel() for part in parts])
    for weight, total in zip(weights, sums, strict=False):
        weight.grad.copy_(total.view(weight.shape))
    return tuple(total.view(()) for total in sums[len(weights) :])


def total(values: torch.Tensor) -> torch.Tensor:
    """Element-wise sum over all processes, differentiable."""
    return values if size() == 1 else _Sum.apply(values)


def largest(value: int) -> int:
    """The largest of an integer of each process."""
    if size() == 1:
        return value
    message = torch.tensor(value)
    dist.all_reduce(message, dist.ReduceOp.MAX)
    return int(message)


@contextmanager
def apart(device: torch.device) -> Iterator[None]:
    """Inside the block, a process has random numbers of its own; after it, all go on with those that they share.

    Its own begin with what they share on the device, which draws since the last block have made another.
    """
    if size() == 1:
        yield
        return
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(int(torch.randint(2**40, (), device=device)) * size() + rank())
        yield


class BatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes (torch's SyncBatchNorm is for GPUs alone)."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if size() == 1 or not self.training:
            return super().forward(x_BCHW)
        x = x_BCHW.to(self.weight.dtype)  # autocast hands it bfloat16
        dims, shape = (0, 2, 3), (1, -1, 1, 1)
        n = total(x.new_tensor(x.numel() // x.shape[1]))
        mean = total(x.sum(dims)) / n
        centred = x - mean.view(shape)
        variance = total((centred**2).sum(dims)) / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x_BCHW.dtype)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()  # of all processes' losses
        dist.all_reduce(gradient)
        return gradient
