"""A sequence GAN over compositions: elements and counts are chosen one after another, each given those before.

The generator first maximises the likelihood of the known formulas and of isovalent substitutions in them, and then
plays against a critic, with the policy gradient of MaliGAN (Che et al. 2017, arXiv:1702.07983, eq. 4): its own samples
are weighted by the critic's estimate of how much likelier they are among known formulas, beside the likelihood. This is
SeqGAN's scheme (Yu et al. 2017, arXiv:1609.05473), and what a laptop can train: a choice among discrete elements needs
no gradient through it, and no draw can be ambiguous.

Elements are said by group, then by period: cations mostly come first, and the last count can balance the charges. Sums
over elements of count times a learned vector of the element are part of the state, so that a balance is linear in it.

Legend of suffixes: B batch, E elements of the vocabulary, K counts (8), S steps (most elements of a formula), M
elements of all formulas of a batch together.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.composition import Compositions
from pipeline.generators import Batch, parallel
from pipeline.generators.checkpoints import Progress, gradient_norm, weights_of
from pipeline.generators.counts import Encoding, encode  # noqa: F401 - asked of every generator

DATA_PARALLEL = True
KINDS = 8
BALANCES = 24
DRAWN_AT_ONCE = {"cpu": 1000, "cuda": 50000}  # a CPU's cache holds one layer of so many; a GPU needs more to be busy
NOBLE = (0, 2, 10, 18, 36, 54, 86)  # atomic numbers after which a period begins


@dataclass(frozen=True)
class Settings:
    """How the sequence GAN trains.

    Args:
        likelihood_epochs: Passes over the training set before the critic comes in.
        adversarial_epochs: As many draws as training formulas, each.
        batch_size: Formulas a step.
        width: Size of the generator's hidden state.
        substitutions: Elements of each formula that are replaced by one of the same family while the likelihood is
            maximised, each epoch anew, in proportion to frequency: isovalent substitution, as in Hautier et al. 2011
            (doi:10.1021/ic102031h). Frequencies stay, valences stay, and known formulas are less learned by heart.
        likelihood_rate: Learning rate of Adam at first, falling to a fiftieth.
        generator_rate, critic_rate: Learning rates of Adam in the adversarial epochs.
        critic_width: Size of the critic's hidden layers.
        critic_dropout: Share of the critic's hidden values left out of each update.
        critic_steps: Critic updates for each of the generator.
        score_limit: Bound of the critic's score in the weights: no sample counts exp(2 x limit) times another.
        temperature: Above 1, draws follow what was said so far less, and the elements' frequencies more: more
            unique, fewer neutral. Training knows none.
    """

    likelihood_epochs: int = 20
    adversarial_epochs: int = 3
    batch_size: int = 512
    width: int = 128
    substitutions: int = 3
    likelihood_rate: float = 3e-3
    generator_rate: float = 1e-4
    critic_rate: float = 1e-3
    critic_width: int = 128
    critic_dropout: float = 0.2
    critic_steps: int = 2
    score_limit: float = 4.0
    temperature: float = 1.12


PRESETS = {"default": Settings()}


class Generator(nn.Module):
    """A recurrent network that says a formula element by element.

    The number of elements is drawn from the training set's frequencies (kept with the weights); then at each step an
    element further on in the periodic table, by group, its count, and on.
    """

    def __init__(self, vocabulary: list[int], width: int) -> None:
        super().__init__()
        n_elements = len(vocabulary)
        self.register_buffer("size_frequency", torch.zeros(n_elements + 1))
        self.register_buffer("rank", torch.tensor([sorted(vocabulary, key=position).index(z) for z in vocabulary]))
        self.register_buffer("family", families(vocabulary))
        self.own = nn.Parameter(0.1 * torch.randn(n_elements, 48))
        self.shared = nn.Parameter(0.3 * torch.randn(n_elements, 48))
        self.count = nn.Parameter(0.3 * torch.randn(KINDS, 16))
        self.left = nn.Parameter(0.3 * torch.randn(n_elements + 1, 32))
        self.start = nn.Linear(32, width)
        self.say_element = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 48))
        self.element_bias = nn.Parameter(torch.zeros(n_elements))
        self.balance = nn.Linear(48, BALANCES)
        self.said = nn.Linear(width + 48, width)
        self.total = nn.Linear(BALANCES, width, bias=False)
        self.offered = nn.Parameter(0.3 * torch.randn(KINDS, width))
        self.say_count = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(width, 1), nn.Flatten(1))
        self.count_bias = nn.Parameter(torch.zeros(KINDS))
        self.recur = nn.GRUCell(48 + 16 + 32 + BALANCES, width)

    def set_frequencies(self, counts_BE: torch.Tensor) -> None:
        """Take the number of elements and the elements' frequencies from the training set."""
        sizes = (counts_BE > 0).sum(1)
        self.size_frequency.copy_(torch.bincount(sizes, minlength=len(self.size_frequency)))
        with torch.no_grad():
            self.element_bias.copy_(torch.log((counts_BE > 0).float().mean(0) + 1e-4))

    def forward(self, sizes_B, elements_BS=None, counts_BS=None, uniform_BS2=None, temperature: float = 1.0):
        """Say formulas, or measure how likely given ones are.

        What is linear is taken apart: of an element, a count or a number of elements left, a layer's output is looked
        up, and a formula's state is carried on only where an element follows.

        Args:
            sizes_B: Number of elements of each formula, descending.
            elements_BS, counts_BS: Vocabulary places, by group and period, and counts - 1; None draws them.
            uniform_BS2: Numbers from 0 to 1 that decide the draws, one for each element and one for each count.
            temperature: Divides what the state says for elements and counts; see :class:`Settings`.

        Returns:
            Elements and counts - 1 (B, S), and the logarithm of the probability of each formula (B,), None of draws.
        """
        drawing = elements_BS is None
        places = torch.arange(len(self.rank), device=sizes_B.device)
        actives = [n for n in (sizes_B > places[:, None]).sum(1).tolist() if n]
        if drawing:
            elements_BS = torch.zeros(len(sizes_B), len(actives), dtype=torch.long, device=sizes_B.device)
            counts_BS = torch.zeros_like(elements_BS)
        state = torch.tanh(self.start(self.left))[sizes_B]
        last = torch.full_like(sizes_B, -1)
        balance = torch.zeros(len(sizes_B), BALANCES, device=sizes_B.device)
        element_E = self.own + self.shared[self.family]
        balance_E = 0.3 * self.balance(element_E)
        total_E = balance_E @ self.total.weight.T
        said_state, said_element = self.said.weight.split([self.said.out_features, 48], 1)
        said_E = F.linear(element_E, said_element, self.said.bias)
        recur_parts = self.recur.weight_ih.split([48, 16, 32, BALANCES], 1)
        recur_E, recur_K, recur_L = (
            table @ part.T for table, part in zip((element_E, self.count, self.left), recur_parts, strict=False)
        )
        offers = torch.arange(1, KINDS + 1, device=sizes_B.device, dtype=balance.dtype)[:, None]
        log_probability = torch.zeros(len(sizes_B), device=sizes_B.device)
        for step, active in enumerate(actives):
            left = sizes_B[:active] - step
            closed = (self.rank <= last[:, None]) | (self.rank > len(self.rank) - left[:, None])
            scores = self.say_element(state) @ element_E.T / temperature + self.element_bias
            scores = scores.masked_fill(closed, -1e4)
            if drawing:
                elements_BS[:active, step] = choose(F.softmax(scores, -1), uniform_BS2[:active, step, 0])
            element = elements_BS[:active, step]
            base = state @ said_state.T + said_E[element] + balance @ self.total.weight.T
            hidden_BK = torch.addcmul(base[:, None] + self.offered, offers, total_E[element][:, None])
            count_scores = self.say_count(hidden_BK) / temperature + self.count_bias
            if drawing:
                counts_BS[:active, step] = choose(F.softmax(count_scores, -1), uniform_BS2[:active, step, 1])
            count = counts_BS[:active, step]
            if not drawing:
                said = -F.cross_entropy(scores, element, reduction="none")
                said = said - F.cross_entropy(count_scores, count, reduction="none")
                log_probability = torch.cat([log_probability[:active] + said, log_probability[active:]])
            if step + 1 < len(actives):
                rest = slice(actives[step + 1])
                element, count, left = element[rest], count[rest], left[rest]
                last = self.rank[element]
                balance = balance[rest] + (count[:, None] + 1) * balance_E[element]
                heard = recur_E[element] + recur_K[count] + recur_L[left - 1] + balance @ recur_parts[3].T
                state = self._recur(heard + self.recur.bias_ih, state[rest])
        return elements_BS, counts_BS, None if drawing else log_probability

    def _recur(self, heard_BG: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """``self.recur`` of an input that its weights have been applied to."""
        kept_BG = F.linear(state, self.recur.weight_hh, self.recur.bias_hh)
        heard, kept = heard_BG.chunk(3, 1), kept_BG.chunk(3, 1)
        reset, keep = torch.sigmoid(heard[0] + kept[0]), torch.sigmoid(heard[1] + kept[1])
        return torch.lerp(torch.tanh(heard[2] + reset * kept[2]), state, keep)

    def likelihood(self, counts_BE: torch.Tensor) -> torch.Tensor:
        """Logarithm of the probability of given formulas, by descending number of elements; (B,)."""
        sizes, order = (counts_BE > 0).sum(1).sort(descending=True)
        counts_BE = counts_BE[order].long()
        keys = torch.where(counts_BE > 0, self.rank, len(self.rank))
        elements_BS = keys.argsort(1)
        return self(sizes, elements_BS, (counts_BE.gather(1, elements_BS) - 1).clamp(min=0))[2]

    def sizes(self, n: int, random: torch.Generator | None = None) -> torch.Tensor:
        """Numbers of elements for ``n`` draws, descending."""
        return torch.multinomial(self.size_frequency, n, True, generator=random).sort(descending=True)[0]


class Critic(nn.Module):
    """Counts (B, E) to the logarithm of real against generated (B,): sums over elements, each seen with the whole."""

    def __init__(self, n_elements: int, width: int, dropout: float) -> None:
        super().__init__()
        self.element = nn.Parameter(0.3 * torch.randn(n_elements, 32))
        self.count = nn.Parameter(0.3 * torch.randn(KINDS + 1, 32))
        self.balance = nn.Linear(32, 32)
        self.alone = nn.Linear(64, width)
        self.whole = nn.Linear(64 + width, width)
        self.together = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Dropout(dropout)
        )
        self.judge = nn.Sequential(
            nn.Linear(2 * width, width), nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(width, 1), nn.Flatten(0)
        )

    def forward(self, counts_BE: torch.Tensor) -> torch.Tensor:
        rows_M, elements_M = torch.nonzero(counts_BE, as_tuple=True)
        counts_M = counts_BE[rows_M, elements_M].long()

        def summed(values: torch.Tensor) -> torch.Tensor:
            return values.new_zeros(len(counts_BE), values.shape[1]).index_add(0, rows_M, values)

        alone = self.alone(torch.cat([self.element[elements_M], self.count[counts_M]], 1))
        balance = summed(counts_M[:, None] * self.balance(self.element)[elements_M])
        atoms = counts_BE.sum(1, keepdim=True)
        whole = self.whole(torch.cat([0.3 * balance, balance / atoms, summed(F.leaky_relu(alone, 0.2))], 1))
        return self.judge(torch.cat([summed(self.together(alone + whole[rows_M])), F.leaky_relu(whole, 0.2)], 1))


def choose(chances_BN: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """A place of each row, in proportion to its chances, decided by a number from 0 to 1 (1 left out)."""
    cumulative_BN = chances_BN.cumsum(1)
    return (cumulative_BN <= uniform_B[:, None] * cumulative_BN[:, -1:]).sum(1)


def dense(sizes_B, elements_BS, counts_BS, n_elements: int) -> torch.Tensor:
    """What the generator said as count matrices, uint8 (B, E)."""
    counts_BE = torch.zeros(len(sizes_B), n_elements, dtype=torch.uint8, device=sizes_B.device)
    said = torch.arange(elements_BS.shape[1], device=sizes_B.device) < sizes_B[:, None]
    rows = torch.nonzero(said)[:, 0]
    counts_BE[rows, elements_BS[said]] = (counts_BS[said] + 1).to(torch.uint8)
    return counts_BE


def position(z: int) -> tuple[int, int, int]:
    """Group, period and atomic number; the f block is in group 3."""
    period = sum(z > before for before in NOBLE)
    place, length = z - NOBLE[period - 1], (2, 8, 8, 18, 18, 32, 32)[period - 1]
    return place if place <= 2 else max(3, 18 - length + place), period, z


def families(vocabulary: list[int]) -> torch.Tensor:
    """Family of each element, int (E,): its group, where hydrogen, the first row's p block and actinides are apart."""
    keys = []
    for group, period, _ in map(position, vocabulary):
        apart = period == 1 or (period == 2 and group > 2) or (period == 7 and group == 3)
        keys.append((group, period * apart))
    return torch.tensor([sorted(set(keys)).index(key) for key in keys])


def substitute(counts_BE: torch.Tensor, chances_EE: torch.Tensor, uniform_BT2: torch.Tensor) -> torch.Tensor:
    """Replace an element of each formula, taken at random, by one drawn from its row of chances, T times over.

    Where the new element is in the formula already, the two change counts. Numbers from 0 to 1 decide which is
    replaced, and by what.
    """
    rows = torch.arange(len(counts_BE), device=counts_BE.device)
    for uniform_B2 in uniform_BT2.unbind(1):
        old = choose((counts_BE > 0).float(), uniform_B2[:, 0])
        new = choose(chances_EE[old], uniform_B2[:, 1])
        replaced = counts_BE.clone()
        replaced[rows, old], replaced[rows, new] = counts_BE[rows, new], counts_BE[rows, old]
        counts_BE = replaced
    return counts_BE


def train(
    tensors: dict[str, np.ndarray],
    *,
    vocabulary: list[int],
    settings: Settings,
    seed: int,
    device: str,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Train and return the generator's weights.

    Args:
        tensors: ``counts``, the count matrix of the training set, uint8 (N, E), at most 8; it goes to the device once.
        vocabulary: Atomic numbers of the E columns.
        settings: See :class:`Settings`.
        seed: Of weights, draws and the order of examples.
        device: ``cpu`` or ``cuda``.
        progress: Takes checkpoints, history and epoch samples, and says where to resume.
    """
    torch.manual_seed(seed)
    data = torch.from_numpy(tensors["counts"]).to(device)
    generator = Generator(vocabulary, settings.width).to(device)
    generator.set_frequencies(data)
    critic = Critic(len(vocabulary), settings.critic_width, settings.critic_dropout).to(device)
    family_E = families(vocabulary).to(device)
    chances_EE = (family_E[:, None] == family_E) * ((data > 0).float().mean(0) + 1e-9)
    state = {
        "generator": generator,
        "critic": critic,
        "likelihood_step": torch.optim.Adam(generator.parameters(), settings.likelihood_rate),
        "generator_step": torch.optim.Adam(generator.parameters(), settings.generator_rate, (0.5, 0.9)),
        "critic_step": torch.optim.AdamW(critic.parameters(), settings.critic_rate, (0.5, 0.9), weight_decay=0.1),
    }
    batch = min(settings.batch_size, len(data))
    for epoch in progress.epochs(settings.likelihood_epochs + settings.adversarial_epochs, state):
        if epoch < settings.likelihood_epochs:
            parts = torch.randperm(len(data), device=device).split(batch)
            for index in progress.steps(len(parts)):
                share = (epoch + index / len(parts)) / settings.likelihood_epochs
                state["likelihood_step"].param_groups[0]["lr"] = settings.likelihood_rate * (1 - 0.98 * share)
                loss = -_likelihood(generator, data[parts[index]], chances_EE, settings)
                (loss,) = _step(state["likelihood_step"], generator, loss)
                progress.record(negative_log_likelihood=loss, generator_gradient_norm=gradient_norm(generator))
        else:
            for _ in progress.steps(max(1, len(data) // batch)):
                _play(generator, critic, data, chances_EE, batch, settings, state, progress)
        progress.samples(epoch, lambda n, seed: draw(weights_of(generator), vocabulary, settings, n, seed, device))
    return weights_of(generator)


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` samples; the same seed on the same kind of device gives the same samples."""
    generator = Generator(vocabulary, settings.width).to(device)
    generator.load_state_dict(weights)
    random = torch.Generator(device).manual_seed(seed)
    with torch.inference_mode():
        drawn = []
        for part in torch.empty(n).split(DRAWN_AT_ONCE[device]):
            sizes = generator.sizes(len(part), random)
            uniform = torch.rand(len(part), int(sizes[0]), 2, device=device, generator=random)
            said = generator(sizes, uniform_BS2=uniform, temperature=settings.temperature)
            drawn.append(dense(sizes, *said[:2], len(vocabulary)))
    return Batch(Compositions.from_dense(torch.cat(drawn).cpu().numpy(), vocabulary).reduced(), n, 0, 0)


def _play(generator, critic, data, chances_EE, batch: int, settings: Settings, state, progress: Progress) -> None:
    """One round: the critic learns to tell real from generated, then the generator moves to what it takes for real."""
    for _ in range(settings.critic_steps):
        sizes = generator.sizes(batch)
        uniform = torch.rand(batch, int(sizes[0]), 2, device=data.device)
        sizes = parallel.mine(sizes)
        with torch.no_grad():
            elements, counts, _ = generator(sizes, uniform_BS2=parallel.mine(uniform))
        fake = _reduced(dense(sizes, elements, counts, data.shape[1]))
        real = parallel.mine(data[torch.randint(len(data), (batch,), device=data.device)])
        with parallel.apart(data.device):  # of the masks of dropout
            score_real, score_fake = critic(torch.cat([real, fake])).split(len(real))
        loss = (F.softplus(-score_real).sum() + F.softplus(score_fake).sum()) / batch
        loss, difference = _step(state["critic_step"], critic, loss, (score_real.sum() - score_fake.sum()) / batch)
    critic_norm = gradient_norm(critic)
    critic.eval()
    with torch.no_grad():
        weights = critic(fake).clamp(-settings.score_limit, settings.score_limit).exp()
        weights = weights * batch / parallel.total(weights.sum()) - 1
    critic.train()
    known = data[torch.randint(len(data), (batch,), device=data.device)]
    objective = _likelihood(generator, known, chances_EE, settings)
    objective = objective + (weights * generator(sizes, elements, counts)[2]).sum() / batch
    _step(state["generator_step"], generator, -objective)
    progress.record(
        critic_loss=loss,
        score_difference=difference,
        critic_gradient_norm=critic_norm,
        generator_gradient_norm=gradient_norm(generator),
    )


def _likelihood(generator: Generator, known_BE: torch.Tensor, chances_EE: torch.Tensor, settings: Settings):
    """This process's part of the mean log-likelihood of known formulas after substitutions."""
    uniform = torch.rand(len(known_BE), settings.substitutions, 2, device=known_BE.device)
    mine = substitute(parallel.mine(known_BE), chances_EE, parallel.mine(uniform))
    return generator.likelihood(mine).sum() / len(known_BE)


def _reduced(counts_BE: torch.Tensor) -> torch.Tensor:
    """Divided by the greatest common divisor of each row: the critic judges the formula and not its multiple."""
    divisor = counts_BE
    while divisor.shape[1] > 1:
        half = divisor.shape[1] // 2
        divisor = torch.cat([torch.gcd(divisor[:, :half], divisor[:, half : 2 * half]), divisor[:, 2 * half :]], 1)
    return counts_BE // divisor


def _step(optimizer: torch.optim.Optimizer, network: nn.Module, loss: torch.Tensor, *figures: torch.Tensor):
    """One step of all processes; the sums of the loss and of the figures over them."""
    optimizer.zero_grad()
    if loss.requires_grad:  # a process without a row of this batch has nothing to add
        loss.backward()
    totals = parallel.sum_gradients(network, loss, *figures)
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return totals
