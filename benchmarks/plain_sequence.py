"""The sequence GAN's generator in plain PyTorch: what its likelihood epochs and its draws are measured against.

The networks of ``pipeline.generators.seqgan`` applied step by step as they are defined, ``torch.multinomial`` for every
draw, and a DataLoader.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.composition import SYMBOLS
from pipeline.generators import seqgan


class Generator(seqgan.Generator):
    """Says formulas, or measures given ones."""

    def forward(self, sizes, elements=None, counts=None, temperature=1.0):
        drawing = elements is None
        n, steps = len(sizes), int(sizes[0])
        if drawing:
            elements = torch.zeros(n, steps, dtype=torch.long, device=sizes.device)
            counts = torch.zeros_like(elements)
        state = torch.tanh(self.start(self.left[sizes]))
        last = torch.full_like(sizes, -1)
        balance = torch.zeros(n, seqgan.BALANCES, device=sizes.device)
        embedding = self.own + self.shared[self.family]
        balances = 0.3 * self.balance(embedding)
        offers = torch.arange(1, seqgan.KINDS + 1, device=sizes.device)[:, None]
        log_probability = torch.zeros(n, device=sizes.device)
        for step in range(steps):
            active = int((sizes > step).sum())
            state, last, balance = state[:active], last[:active], balance[:active]
            left = sizes[:active] - step
            closed = (self.rank <= last[:, None]) | (self.rank > len(self.rank) - left[:, None])
            scores = self.say_element(state) @ embedding.T / temperature + self.element_bias
            scores = scores.masked_fill(closed, -1e4)
            if drawing:
                elements[:active, step] = torch.multinomial(F.softmax(scores, -1), 1)[:, 0]
            element = elements[:active, step]
            total = self.total(balance[:, None] + offers * balances[element][:, None])
            hidden = self.said(torch.cat([state, embedding[element]], 1))[:, None] + total + self.offered
            count_scores = self.say_count(hidden) / temperature + self.count_bias
            if drawing:
                counts[:active, step] = torch.multinomial(F.softmax(count_scores, -1), 1)[:, 0]
            count = counts[:active, step]
            if not drawing:
                said = -F.cross_entropy(scores, element, reduction="none")
                said = said - F.cross_entropy(count_scores, count, reduction="none")
                log_probability = torch.cat([log_probability[:active] + said, log_probability[active:]])
            last = self.rank[element]
            balance = balance + (count[:, None] + 1) * balances[element]
            heard = torch.cat([embedding[element], self.count[count], self.left[left - 1], balance], 1)
            state = self.recur(heard, state)
        return elements, counts, log_probability


def substitute(counts, chances, times: int):
    """Replace an element of each formula by one drawn from its row of chances, ``times`` over."""
    rows = torch.arange(len(counts), device=counts.device)
    for _ in range(times):
        old = torch.multinomial((counts > 0).float(), 1)[:, 0]
        new = torch.multinomial(chances[old], 1)[:, 0]
        replaced = counts.clone()
        replaced[rows, old], replaced[rows, new] = counts[rows, new], counts[rows, old]
        counts = replaced
    return counts


def train(counts_NE: np.ndarray, vocabulary: list[int], settings: seqgan.Settings, seed: int, device: str):
    """The generator after the likelihood epochs, and the mean loss of the last."""
    torch.manual_seed(seed)
    data = torch.from_numpy(counts_NE)
    generator = Generator(vocabulary, settings.width).to(device)
    generator.set_frequencies(data.to(device))
    family = seqgan.families(vocabulary)
    chances = ((family[:, None] == family) * ((data > 0).float().mean(0) + 1e-9)).to(device)
    optimizer = torch.optim.Adam(generator.parameters(), settings.likelihood_rate)
    loader = DataLoader(TensorDataset(data), settings.batch_size, shuffle=True)
    for epoch in range(settings.likelihood_epochs):
        losses = []
        for index, (batch,) in enumerate(loader):
            share = (epoch + index / len(loader)) / settings.likelihood_epochs
            optimizer.param_groups[0]["lr"] = settings.likelihood_rate * (1 - 0.98 * share)
            loss = -generator.likelihood(substitute(batch.to(device), chances, settings.substitutions)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(generator.parameters(), 5.0)
            optimizer.step()
            losses.append(loss.item())
    return generator, float(np.mean(losses))


def sample(generator: Generator, vocabulary: list[int], temperature: float, n: int, seed: int) -> list[str]:
    """Formulas of ``n`` draws, as they are said."""
    symbols = [SYMBOLS[z - 1] for z in vocabulary]
    torch.manual_seed(seed)
    formulas = []
    with torch.no_grad():
        for part in torch.empty(n).split(1000):
            sizes = generator.sizes(len(part))
            elements, counts, _ = generator(sizes, temperature=temperature)
            rows = zip(sizes.tolist(), elements.tolist(), counts.tolist(), strict=True)
            for size, row, said in rows:
                formulas.append("".join(f"{symbols[row[i]]}{said[i] + 1}" for i in range(size)))
    return formulas
