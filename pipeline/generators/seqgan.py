"""A sequence GAN over compositions: elements and counts are chosen one after another, each given those before.

The generator first maximises the likelihood of the known formulas and then plays against a critic, with the policy
gradient of MaliGAN (Che et al. 2017, arXiv:1702.07983, eq. 4): its own samples are weighted by the critic's estimate of
how much likelier they are among known formulas. This is SeqGAN's scheme (Yu et al. 2017, arXiv:1609.05473), and what a
laptop can train: a choice among discrete elements needs no gradient through it, and no draw can be ambiguous.

Legend of suffixes: B batch, E elements of the vocabulary, K counts (8), S steps (most elements of a formula).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.composition import Compositions
from pipeline.generators import Batch
from pipeline.generators.checkpoints import Progress, gradient_norm, weights_of

KINDS = 8


@dataclass(frozen=True)
class Settings:
    """How the sequence GAN trains.

    Args:
        likelihood_epochs: Passes over the training set before the critic comes in.
        adversarial_epochs: As many draws as training formulas, each.
        batch_size: Formulas a step.
        width: Size of the generator's hidden state.
        likelihood_rate: Learning rate of Adam at first, falling to a twentieth.
        generator_rate, critic_rate: Learning rates of Adam in the adversarial epochs.
        critic_width: Size of the critic's three hidden layers.
        critic_steps: Critic updates for each of the generator.
        penalty: Weight of the critic's squared gradient at real formulas (R1, Mescheder et al. 2018,
            arXiv:1801.04406).
        score_limit: Bound of the critic's score in the weights: no sample counts exp(2 x limit) times another.
    """

    likelihood_epochs: int = 24
    adversarial_epochs: int = 6
    batch_size: int = 512
    width: int = 128
    likelihood_rate: float = 3e-3
    generator_rate: float = 2e-4
    critic_rate: float = 1e-3
    critic_width: int = 256
    critic_steps: int = 2
    penalty: float = 0.02
    score_limit: float = 4.0


PRESETS = {"default": Settings()}


class Generator(nn.Module):
    """A recurrent network that says a formula element by element.

    The number of elements is drawn from the training set's frequencies (kept with the weights); then at each step an
    element not yet used, its count, and on. Orders of elements are random in training, so none is preferred.
    """

    def __init__(self, n_elements: int, width: int) -> None:
        super().__init__()
        self.register_buffer("size_frequency", torch.zeros(n_elements + 1))
        self.element = nn.Parameter(0.3 * torch.randn(n_elements, 48))
        self.count = nn.Parameter(0.3 * torch.randn(KINDS, 16))
        self.left = nn.Parameter(0.3 * torch.randn(n_elements + 1, 32))
        self.start = nn.Linear(32, width)
        self.say_element = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 48))
        self.element_bias = nn.Parameter(torch.zeros(n_elements))
        self.say_count = nn.Sequential(nn.Linear(width + 48, width), nn.LeakyReLU(0.2), nn.Linear(width, KINDS))
        self.recur = nn.GRUCell(48 + 16 + 32, width)

    def set_frequencies(self, counts_BE: torch.Tensor) -> None:
        """Take the number of elements and the elements' frequencies from the training set."""
        sizes = (counts_BE > 0).sum(1)
        self.size_frequency.copy_(torch.bincount(sizes, minlength=len(self.size_frequency)))
        with torch.no_grad():
            self.element_bias.copy_(torch.log((counts_BE > 0).float().mean(0) + 1e-4))

    def forward(self, sizes_B, elements_BS=None, counts_BS=None, random: torch.Generator | None = None):
        """Say formulas, or measure how likely given ones are.

        Args:
            sizes_B: Number of elements of each formula, descending.
            elements_BS, counts_BS: Vocabulary places and counts - 1 of given formulas; None draws them.
            random: Source of the draws.

        Returns:
            Elements and counts - 1 (B, S), and the logarithm of the probability of each formula in this order (B,).
        """
        drawing = elements_BS is None
        n, steps = len(sizes_B), int(sizes_B[0])
        if drawing:
            elements_BS = torch.zeros(n, steps, dtype=torch.long, device=sizes_B.device)
            counts_BS = torch.zeros_like(elements_BS)
        state = torch.tanh(self.start(self.left[sizes_B]))
        used = torch.zeros(n, len(self.element), dtype=torch.bool, device=sizes_B.device)
        log_probability = torch.zeros(n, device=sizes_B.device)
        for step in range(steps):
            active = int((sizes_B > step).sum())
            state, used = state[:active], used[:active]
            scores = (self.say_element(state) @ self.element.T + self.element_bias).masked_fill(used, -1e4)
            if drawing:
                elements_BS[:active, step] = torch.multinomial(F.softmax(scores, -1), 1, generator=random)[:, 0]
            element = elements_BS[:active, step]
            embedded = self.element[element]
            count_scores = self.say_count(torch.cat([state, embedded], 1))
            if drawing:
                counts_BS[:active, step] = torch.multinomial(F.softmax(count_scores, -1), 1, generator=random)[:, 0]
            count = counts_BS[:active, step]
            said = -F.cross_entropy(scores, element, reduction="none")
            said = said - F.cross_entropy(count_scores, count, reduction="none")
            log_probability = torch.cat([log_probability[:active] + said, log_probability[active:]])
            used = used.scatter(1, element[:, None], True)
            state = self.recur(
                torch.cat([embedded, self.count[count], self.left[sizes_B[:active] - step - 1]], 1), state
            )
        return elements_BS, counts_BS, log_probability

    def likelihood(self, counts_BE: torch.Tensor) -> torch.Tensor:
        """Logarithm of the probability of given formulas, each in a random order; (B,)."""
        sizes, order = (counts_BE > 0).sum(1).sort(descending=True)
        counts_BE = counts_BE[order].long()
        keys = torch.rand(counts_BE.shape, device=counts_BE.device) - 2.0 * (counts_BE == 0)
        elements_BS = keys.argsort(1, descending=True)[:, : int(sizes[0])]
        return self(sizes, elements_BS, (counts_BE.gather(1, elements_BS) - 1).clamp(min=0))[2]

    def sizes(self, n: int, random: torch.Generator | None = None) -> torch.Tensor:
        """Numbers of elements for ``n`` draws, descending."""
        return torch.multinomial(self.size_frequency, n, True, generator=random).sort(descending=True)[0]


class Critic(nn.Module):
    """Count matrices (B, E) to the logarithm of real against generated (B,), from one-hot cells, presence and counts."""

    def __init__(self, n_elements: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = n_elements * (KINDS + 2)
        for _ in range(3):
            layers += [nn.Linear(size, width), nn.LeakyReLU(0.2)]
            size = width
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    @staticmethod
    def features(counts_BE: torch.Tensor) -> torch.Tensor:
        """One-hot cells, presence and scaled counts of each element, float (B, 10 E)."""
        kinds = torch.arange(1, KINDS + 1, device=counts_BE.device, dtype=counts_BE.dtype)
        one_hot = (counts_BE.unsqueeze(-1) == kinds).flatten(1)
        return torch.cat([one_hot, counts_BE > 0, counts_BE.float() / 3], 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features).squeeze(1)


def dense(sizes_B, elements_BS, counts_BS, n_elements: int) -> torch.Tensor:
    """What the generator said as count matrices, uint8 (B, E)."""
    counts_BE = torch.zeros(len(sizes_B), n_elements, dtype=torch.uint8, device=sizes_B.device)
    said = torch.arange(elements_BS.shape[1], device=sizes_B.device) < sizes_B[:, None]
    rows = torch.nonzero(said)[:, 0]
    counts_BE[rows, elements_BS[said]] = (counts_BS[said] + 1).to(torch.uint8)
    return counts_BE


def train(
    counts_NE: np.ndarray, *, vocabulary: list[int], settings: Settings, seed: int, device: str, progress: Progress
) -> dict[str, torch.Tensor]:
    """Train and return the generator's weights.

    Args:
        counts_NE: Count matrix of the training set, uint8 (N, E), at most 8; it goes to the device once.
        vocabulary: Atomic numbers of the E columns.
        settings: See :class:`Settings`.
        seed: Of weights, draws and the order of examples.
        device: ``cpu`` or ``cuda``.
        progress: Takes checkpoints, history and epoch samples, and says where to resume.
    """
    torch.manual_seed(seed)
    n_elements = counts_NE.shape[1]
    data = torch.from_numpy(counts_NE).to(device)
    generator = Generator(n_elements, settings.width).to(device)
    generator.set_frequencies(data)
    critic = Critic(n_elements, settings.critic_width).to(device)
    state = {
        "generator": generator,
        "critic": critic,
        "likelihood_step": torch.optim.Adam(generator.parameters(), settings.likelihood_rate),
        "generator_step": torch.optim.Adam(generator.parameters(), settings.generator_rate, (0.5, 0.9)),
        "critic_step": torch.optim.Adam(critic.parameters(), settings.critic_rate, (0.5, 0.9)),
    }
    batch = min(settings.batch_size, len(data))
    for epoch in progress.epochs(settings.likelihood_epochs + settings.adversarial_epochs, state):
        if epoch < settings.likelihood_epochs:
            share = epoch / settings.likelihood_epochs
            state["likelihood_step"].param_groups[0]["lr"] = settings.likelihood_rate * (1 - 0.95 * share)
            for rows in torch.randperm(len(data), device=device).split(batch):
                loss = -generator.likelihood(data[rows]).mean()
                _step(state["likelihood_step"], loss)
                progress.record(negative_log_likelihood=loss, generator_gradient_norm=gradient_norm(generator))
        else:
            for _ in range(max(1, len(data) // batch)):
                _play(generator, critic, data, batch, settings, state, progress)
        progress.samples(epoch, lambda n, seed: draw(weights_of(generator), vocabulary, settings, n, seed, device))
    return weights_of(generator)


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` samples; the same seed on the same kind of device gives the same samples."""
    generator = Generator(len(vocabulary), settings.width).to(device)
    generator.load_state_dict(weights)
    random = torch.Generator(device).manual_seed(seed)
    with torch.inference_mode():
        drawn = [
            dense(sizes, *generator(sizes, random=random)[:2], len(vocabulary)).cpu()
            for sizes in (generator.sizes(len(part), random) for part in torch.empty(n).split(5000))
        ]
    return Batch(Compositions.from_dense(torch.cat(drawn).numpy(), vocabulary).reduced(), n, 0, 0)


def _play(generator, critic, data, batch: int, settings: Settings, state: dict, progress: Progress) -> None:
    """One round: the critic learns to tell real from generated, then the generator moves towards what it takes for real."""
    for _ in range(settings.critic_steps):
        sizes = generator.sizes(batch)
        with torch.no_grad():
            elements, counts, _ = generator(sizes)
        fake = critic.features(_reduced(dense(sizes, elements, counts, data.shape[1])))
        real = critic.features(data[torch.randint(len(data), (batch,), device=data.device)]).requires_grad_(True)
        score_real, score_fake = critic(real), critic(fake)
        (gradient,) = torch.autograd.grad(score_real.sum(), real, create_graph=True)
        loss = F.softplus(-score_real).mean() + F.softplus(score_fake).mean()
        _step(state["critic_step"], loss + settings.penalty / 2 * gradient.square().sum(1).mean())
    with torch.no_grad():
        weights = F.softmax(critic(fake).clamp(-settings.score_limit, settings.score_limit), 0) * batch - 1
    objective = (weights * generator(sizes, elements, counts)[2]).mean()
    _step(state["generator_step"], -objective)
    progress.record(
        critic_loss=loss,
        score_difference=score_real.mean() - score_fake.mean(),
        critic_gradient_norm=gradient_norm(critic),
        generator_gradient_norm=gradient_norm(generator),
    )


def _reduced(counts_BE: torch.Tensor) -> torch.Tensor:
    """Divided by the greatest common divisor of each row, so that the critic judges the formula and not its multiple."""
    divisor = counts_BE[:, 0].long()
    for column in range(1, counts_BE.shape[1]):
        divisor = torch.gcd(divisor, counts_BE[:, column].long())
    return (counts_BE // divisor[:, None]).to(counts_BE.dtype)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], 5.0)
    optimizer.step()
