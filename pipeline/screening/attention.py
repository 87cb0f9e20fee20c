"""Attention over the elements of a formula: the class of Roost and CrabNet (doi:10.1038/s41467-020-19964-7,
doi:10.1038/s41524-021-00545-1). The network stands in ``attention_network``.

Suffixes: N formulas, K elements of a formula, M element-count pairs, T tokens of a batch, F features, V vocabulary,
P properties.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.provenance import derived_seed
from pipeline.screening.attention_network import Batch, Network
from pipeline.screening.features import element_properties
from pipeline.screening.learners import Inputs, Report, Task
from pipeline.screening.muon import Muon
from pipeline.training.settings import pick_device
from pipeline.weights import read_weights, write_weights

SUFFIX = "safetensors"
METHOD = """Self-attention over the elements of a formula, each a token of element and fraction, pooled by attention
and finished by a residual network: the class of Roost (Goodall and Lee 2020, doi:10.1038/s41467-020-19964-7) and
CrabNet (Wang et al. 2021, doi:10.1038/s41524-021-00545-1). Other than in the papers: an element is a learnt vector plus
a learnt projection of Magpie's element properties; every attention weighs an element by a learnt power of its fraction;
features of the formula join before the last network; mean absolute error (cross-entropy for classes) as the loss; Muon
(AdamW for embeddings and vectors) with a warm-up and a cosine decay; the moving average of the weights is kept, rounded
to float16 before it was tested."""
INFERENCE_TOKENS, INFERENCE_BLOCK = 4096, 1 << 16
LARGEST_FEATURE = 5.0  # standard deviations; what lies beyond is cut
WARM_UP = 0.05


@dataclass(frozen=True)
class AttentionTraining:
    """How the networks are made and trained.

    Args:
        epochs: Passes over the training set; the learning rate falls to zero along a cosine over them. Twenty of OQMD's
            169,000 formulas take ten minutes on one core; sets of a few thousand need more passes and smaller batches.
        width: Numbers of a token; the last network is twice as wide.
        layers: Attention layers.
        heads: Heads of each attention.
        features: Whether the features of the formula join the pooled tokens.
        batch_size: Formulas a step.
        learning_rate: Peak rate, reached after a twentieth of the steps.
        weight_decay: Share of the weights that a step takes off, times the rate.
        averaging: Decay a step of the moving average of the weights.
        patience: Epochs without a better validation error after which training ends.
        members: Networks, each of its own seed; the prediction is their mean.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.
    """

    epochs: int = 20
    width: int = 96
    layers: int = 3
    heads: int = 4
    features: bool = True
    batch_size: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    averaging: float = 0.999
    patience: int = 10
    members: int = 1
    device: str = "auto"

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"attention: width {self.width} is no multiple of heads {self.heads}; change one of them")


class _Rows:
    """A set of formulas on the device, from which batches are gathered."""

    def __init__(self, inputs: Inputs, vocabulary: list[int], scaling: tuple[np.ndarray, np.ndarray], device: str):
        compositions = inputs.compositions
        self.device, self.sizes, self.starts = device, compositions.n_elements, compositions.offsets[:-1]
        assert (self.sizes > 0).all(), "an empty formula"
        places = np.full(256, -1)
        places[vocabulary] = np.arange(len(vocabulary))
        elements_M = places[compositions.elements]
        assert (elements_M >= 0).all(), "an element outside the vocabulary"
        self.elements_M = torch.from_numpy(elements_M).to(device)
        self.fractions_M = torch.from_numpy(compositions.fractions()).float().to(device)
        self.features_NF = torch.from_numpy(_standardised(inputs.features_NF, scaling)).to(device)

    def __len__(self) -> int:
        return len(self.sizes)

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, Batch]:
        """The rows by number of elements, and their batch."""
        rows = rows[np.argsort(self.sizes[rows], kind="stable")]
        sizes = self.sizes[rows]
        firsts = self.starts[rows] - np.concatenate([[0], np.cumsum(sizes)[:-1]])
        tokens_T = torch.from_numpy(np.repeat(firsts, sizes) + np.arange(sizes.sum())).to(self.device)
        groups = [(int(n), int(k)) for k, n in zip(*np.unique(sizes, return_counts=True), strict=True)]
        features_NF = self.features_NF[torch.from_numpy(rows).to(self.device)]
        return rows, Batch(groups, self.elements_M[tokens_T], self.fractions_M[tokens_T], features_NF)

    def batches(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """All rows, those of one number of elements after those of another, in batches of a size."""
        order = np.argsort(self.sizes, kind="stable")
        for rows in np.split(order, np.searchsorted(self.sizes[order], np.unique(self.sizes))[1:]):
            size = max(1, INFERENCE_TOKENS // int(self.sizes[rows[0]])) if len(rows) else 1
            for start in range(0, len(rows), size):
                yield self.batch(rows[start : start + size])


def _scaling(features_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of what is known of each feature, 0 and 1 where nothing is or nothing varies."""
    known_NF = np.isfinite(features_NF)
    count_F = np.maximum(known_NF.sum(axis=0), 1)
    mean_F = np.where(known_NF, features_NF, 0.0).sum(axis=0) / count_F
    deviation_F = np.sqrt((np.where(known_NF, features_NF - mean_F, 0.0) ** 2).sum(axis=0) / count_F)
    return mean_F, np.where(deviation_F > 0, deviation_F, 1.0)


def _standardised(features_NF: np.ndarray, scaling: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Features in standard deviations from the mean, 0 where unknown; float32 of shape (N, F), F as in ``scaling``."""
    mean_F, deviation_F = scaling
    if len(mean_F) == 0:
        return np.empty((len(features_NF), 0), dtype=np.float32)
    assert features_NF.shape[1] == len(mean_F), f"{features_NF.shape[1]} features, {len(mean_F)} were learnt"
    scaled_NF = np.nan_to_num((features_NF - mean_F) / deviation_F, nan=0.0, posinf=0.0, neginf=0.0)
    return scaled_NF.clip(-LARGEST_FEATURE, LARGEST_FEATURE).astype(np.float32)


@dataclass(frozen=True)
class Attention:
    """Trained networks.

    Attributes:
        networks: One a member.
        settings: How they were made.
        task: Of :data:`pipeline.screening.learners.Task`.
        vocabulary: Atomic numbers of the elements.
        scaling: Mean and standard deviation of each feature that is used, both of shape (F,).
        center, scale: Of the targets, in their unit; 0 and 1 for a classifier.
        history: Rows of member, epoch, and error in training and validation: mean absolute error in the target's
            unit, or cross-entropy.
    """

    networks: list[Network]
    settings: AttentionTraining
    task: Task
    vocabulary: list[int]
    scaling: tuple[np.ndarray, np.ndarray]
    center: float
    scale: float
    history: list[dict]

    def predict(self, inputs: Inputs, threads: int) -> np.ndarray:
        """The target of each formula, or the probability of True: the mean of the members; float64 of shape (N,)."""
        torch.set_num_threads(threads)
        device = pick_device(self.settings.device)
        total_N = np.zeros(len(inputs))
        for start in range(0, len(inputs), INFERENCE_BLOCK):
            block = np.arange(start, min(start + INFERENCE_BLOCK, len(inputs)))
            rows = _Rows(inputs.take(block), self.vocabulary, self.scaling, device)
            for network in self.networks:
                total_N[block] += _values(network.to(device), rows, self.task, self.center, self.scale)
        return total_N / len(self.networks)

    def save(self, path: Path) -> None:
        """Write the weights as float16, and beside them what standardises features and targets."""
        tensors = {
            f"{member}.{name}": value.half().cpu().contiguous()
            for member, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        tensors["feature_mean"], tensors["feature_deviation"] = map(torch.from_numpy, self.scaling)
        about = {"learner": "attention", "settings": asdict(self.settings), "task": self.task}
        about |= {"vocabulary": self.vocabulary, "center": self.center, "scale": self.scale, "history": self.history}
        write_weights(path, tensors, about)

    @classmethod
    def load(cls, path: Path, vocabulary: list[int]) -> "Attention":
        """Read what :meth:`save` wrote; it runs on a GPU where there is one.

        Raises:
            ValueError: The file is missing, damaged, of another learner or of another vocabulary.
        """
        tensors, about = read_weights(path)
        if about.get("learner") != "attention":
            raise ValueError(f"{path}: not the weights of an attention model; restore the file or train anew")
        if about.get("vocabulary") != list(vocabulary):
            raise ValueError(
                f"{path}: of {len(about.get('vocabulary', ()))} elements, other than the {len(vocabulary)} asked for"
            )
        try:
            settings = AttentionTraining(**{**about["settings"], "device": "auto"})
            scaling = tensors["feature_mean"].numpy(), tensors["feature_deviation"].numpy()
            networks = []
            for member in range(settings.members):
                network = _network(settings, vocabulary, len(scaling[0]))
                network.load_state_dict({name: tensors[f"{member}.{name}"].float() for name in network.state_dict()})
                networks.append(network)
            values = (about[name] for name in ("center", "scale", "history"))
            return cls(networks, settings, about["task"], about["vocabulary"], scaling, *values)
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: not the weights of its settings ({reason}); restore it or train anew") from error


def _network(settings: AttentionTraining, vocabulary: list[int], n_features: int) -> Network:
    properties_VP = element_properties()[vocabulary]
    deviation_P = properties_VP.std(axis=0)
    standard_VP = (properties_VP - properties_VP.mean(axis=0)) / np.where(deviation_P > 0, deviation_P, 1.0)
    properties = torch.from_numpy(standard_VP).float()
    return Network(settings.width, settings.layers, settings.heads, properties, n_features)


def _values(network: Network, rows: _Rows, task: Task, center: float, scale: float) -> np.ndarray:
    """Targets or probabilities of one network, float64 of shape (N,)."""
    values_N = np.empty(len(rows))
    with torch.inference_mode():
        for places, batch in rows.batches():
            raw = network(batch).double()
            values_N[places] = (raw.sigmoid() if task == "classification" else raw * scale + center).cpu().numpy()
    return values_N


def fit(
    train: Inputs,
    targets_N: np.ndarray,
    validation: Inputs,
    validation_targets_N: np.ndarray,
    *,
    task: Task,
    vocabulary: list[int],
    settings: AttentionTraining,
    seed: int,
    threads: int,
    report: Report,
) -> Attention:
    """Train on one set, stop on another; see :mod:`pipeline.screening.learners`.

    Of each member the moving average of the weights is kept, as it was after the epoch of lowest validation error.
    """
    torch.set_num_threads(threads)
    device = pick_device(settings.device)
    targets_N, validation_targets_N = targets_N.astype(np.float64), validation_targets_N.astype(np.float64)
    center, scale = 0.0, 1.0
    if task == "regression":
        center, scale = float(targets_N.mean()), float(targets_N.std()) or 1.0
    empty = np.empty(0)
    scaling = _scaling(train.features_NF) if settings.features else (empty, empty)
    sets = [_Rows(each, vocabulary, scaling, device) for each in (train, validation)]
    model = Attention([], settings, task, list(vocabulary), scaling, center, scale, [])
    for member in range(settings.members):
        torch.manual_seed(derived_seed(seed, "member", member))
        network = _network(settings, vocabulary, len(scaling[0])).to(device)
        history: list[dict] = []

        def tell(row: dict, member: int = member, history: list[dict] = history) -> None:
            history.append({"member": member, **row})
            report(history[-1])

        order = np.random.default_rng(derived_seed(seed, "order", member))
        model.networks.append(_train(network, sets, (targets_N, validation_targets_N), model, order, tell))
        model.history.extend(history)
    return model


def _share_of_peak(progress: float) -> float:
    """Of the learning rate: a linear warm-up, then a cosine to 0, as training goes from 0 to 1."""
    return min(progress / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def _train(
    network: Network,
    sets: list[_Rows],
    targets: tuple[np.ndarray, np.ndarray],
    model: Attention,
    order: np.random.Generator,
    tell: Report,
) -> Network:
    """The moving average of a network's weights at its best epoch, rounded to float16."""
    settings, (rows, held_out) = model.settings, sets
    goals_N = torch.from_numpy((targets[0] - model.center) / model.scale).float().to(rows.device)
    regression = model.task == "regression"
    error_of = functional.l1_loss if regression else functional.binary_cross_entropy_with_logits
    name = "mae" if regression else "cross_entropy"
    average = deepcopy(network).requires_grad_(False)
    parameters = list(network.parameters())
    hidden = [each for part in (network.layers, network.blocks) for each in part.parameters() if each.ndim == 2]
    others = [each for each in parameters if all(each is not one for one in hidden)]
    optimizers = [
        Muon(hidden, settings.learning_rate, settings.weight_decay),
        torch.optim.AdamW(others, settings.learning_rate, weight_decay=settings.weight_decay, fused=True),
    ]
    steps = max(1, len(rows) // settings.batch_size)  # the rest of an epoch, too few for a step, is left out
    best, kept, kept_epoch, step = math.inf, average.state_dict(), -1, 0
    for epoch in range(settings.epochs):
        total = torch.zeros((), device=rows.device)
        shuffled = order.permutation(len(rows))
        for start in range(0, steps * settings.batch_size, settings.batch_size):
            places, batch = rows.batch(shuffled[start : start + settings.batch_size])
            loss = error_of(network(batch), goals_N[torch.from_numpy(places).to(rows.device)])
            network.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            step += 1
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = settings.learning_rate * _share_of_peak(
                    step / (steps * settings.epochs)
                )
                optimizer.step()
            total += loss.detach()
            decay = min(settings.averaging, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), [each.detach() for each in parameters], 1 - decay)
        values_N = _values(average, held_out, model.task, model.center, model.scale)
        error = _error(values_N, targets[1], regression)
        tell({"epoch": epoch, f"train_{name}": model.scale * total.item() / steps, f"validation_{name}": error})
        if error < best:
            best, kept, kept_epoch = error, {key: each.clone() for key, each in average.state_dict().items()}, epoch
        if epoch - kept_epoch >= settings.patience:
            break
    average.load_state_dict({key: each.half().float() for key, each in kept.items()})
    return average


def _error(values_N: np.ndarray, targets_N: np.ndarray, regression: bool) -> float:
    """Mean absolute error, or cross-entropy of probabilities."""
    if regression:
        return float(np.abs(values_N - targets_N).mean())
    likelihood_N = np.where(targets_N > 0, values_N, 1 - values_N)
    return float(-np.log(likelihood_N.clip(1e-7)).mean())
