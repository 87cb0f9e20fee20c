"""An optimiser of matrices: momentum whose singular values are all made about 1."""

import math

import torch
from torch import nn

MOMENTUM, NEWTON_SCHULZ = 0.95, (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024
STEPS = 5


class Muon:
    """Steps of orthogonal matrices: momentum whose singular values are all made about 1 (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon), of the size that AdamW's have (Liu et al. 2025, arXiv:2502.16982).

    torch's own takes one matrix after another, in bfloat16, which few CPUs have; here those of a shape go together.
    """

    def __init__(self, matrices: list[nn.Parameter], learning_rate: float, weight_decay: float):
        self.param_groups = [{"lr": learning_rate}]
        self.weight_decay = weight_decay
        shapes = dict.fromkeys(each.shape for each in matrices)
        self.stacks = [[each for each in matrices if each.shape == shape] for shape in shapes]
        self.momenta = [torch.zeros_like(torch.stack(stack)) for stack in self.stacks]

    @torch.no_grad()
    def step(self) -> None:
        rate = self.param_groups[0]["lr"]
        for stack, momentum in zip(self.stacks, self.momenta, strict=True):
            gradient = torch.stack([each.grad for each in stack])
            momentum.lerp_(gradient, 1 - MOMENTUM)
            turned = orthogonal(gradient.lerp(momentum, MOMENTUM))
            size = 0.2 * math.sqrt(max(stack[0].shape))
            torch._foreach_mul_(stack, 1 - rate * self.weight_decay)
            torch._foreach_add_(stack, list(turned), alpha=-rate * size)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices of the same singular vectors with singular values of about 1: five quintic Newton-Schulz steps."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
