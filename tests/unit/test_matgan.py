"""MatGAN: the published networks, strict decoding, both constraints, and training that can be killed."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.composition import Compositions
from pipeline.generators import load, matgan
from pipeline.generators.checkpoints import FILE, Progress, frozen, gradient_norm, weights_of
from pipeline.generators.matgan import (
    ARCHITECTURES,
    PRESETS,
    Critic,
    Generator,
    decode,
    draw,
    expand,
    penalty,
    train,
)

VOCABULARY = [3, 8, 11, 17, 26, 35]
PUBLISHED = {
    "oqmd": {
        "filters": [32, 32, 64, 64, 128, 128, 256],
        "kernels": [3, 3, 3, 3, 3, 3, 5],
        "shapes": [(85, 8), (43, 8), (43, 8), (22, 8), (22, 8), (11, 8), (6, 4)],
    },
    "icsd_mp": {
        "filters": [16, 32, 64, 128],
        "kernels": [3, 3, 3, 5],
        "shapes": [(43, 8), (22, 8), (11, 8), (6, 4)],
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def outputs(blocks: nn.Module, kind: type, run) -> list[tuple[int, ...]]:
    """(channels, rows, columns) that each layer of a kind puts out."""
    shapes = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
        for layer in blocks
        if isinstance(layer, kind)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("architecture", ["oqmd", "icsd_mp"])
def test_networks_are_the_published_ones(architecture):
    published = PUBLISHED[architecture]
    assert [kernel for _, kernel, _ in ARCHITECTURES[architecture]] == published["kernels"]
    critic = Critic(85, architecture, batch_norm=False)
    shapes = outputs(critic.blocks, nn.Conv2d, lambda: critic(torch.zeros(2, 85, 8)))
    assert shapes == [(c, *size) for c, size in zip(published["filters"], published["shapes"], strict=True)]
    generator = Generator(85, architecture)
    made = outputs(generator.blocks, nn.ConvTranspose2d, lambda: generator(torch.randn(2, 128)))
    assert generator.start == (published["filters"][-1], 6, 4)
    assert made == [*shapes[-2::-1], (1, 85, 8)]


@pytest.mark.parametrize("architecture", ["oqmd", "icsd_mp"])
@pytest.mark.parametrize("n_elements", [1, 2, 5, 42, 85, 89])
def test_any_vocabulary(architecture, n_elements):
    torch.manual_seed(0)
    scores = Generator(n_elements, architecture)(torch.randn(3, 128))
    assert scores.shape == (3, n_elements, 8)
    assert (scores > 0).all() and (scores < 1).all()
    for batch_norm in (False, True):
        assert Critic(n_elements, architecture, batch_norm)(scores).shape == (3,)


def test_expand_and_decode_are_inverse():
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (200, 12), dtype=np.uint8))
    matrix = expand(counts)
    assert matrix.shape == (200, 12, 8) and matrix.dtype == torch.float32
    assert (matrix.sum(-1) == (counts > 0)).all()
    again, ambiguous = decode(matrix, 0.5)
    assert again.dtype == torch.uint8 and (again == counts).all() and not ambiguous.any()


def test_decoding_is_strict():
    scores = torch.full((4, 3, 8), 0.1)
    scores[0, 0, 2] = 0.9
    scores[1, 0, 2] = scores[1, 0, 5] = 0.9  # an element with two counts
    scores[2, 0, 2] = scores[2, 1, 2] = 0.5  # two elements; at the threshold is on
    counts, ambiguous = decode(scores, 0.5)
    assert ambiguous.tolist() == [False, True, False, False]
    assert counts[[0, 2, 3]].tolist() == [[3, 0, 0], [3, 3, 0], [0, 0, 0]]


def test_batchnorm_only_with_clipping():
    def norms(network):
        return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())

    assert norms(Critic(6, "icsd_mp", batch_norm=False)) == 0
    assert norms(Critic(6, "icsd_mp", batch_norm=True)) == 4
    assert norms(Generator(6, "icsd_mp")) == 3


@pytest.mark.parametrize("architecture", ["oqmd", "icsd_mp"])
@pytest.mark.parametrize("n_elements", [1, 5, 42, 85])
def test_gradient_is_that_of_autograd(architecture, n_elements):
    """The gradient by the matrix, and what the penalty says to the weights, against autograd of autograd."""
    torch.manual_seed(0)
    critic = Critic(n_elements, architecture, batch_norm=False).double()
    matrix = torch.rand(3, n_elements, 8, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(critic(matrix).sum(), matrix, create_graph=True)
    assert torch.allclose(critic.gradient(matrix), expected, atol=1e-12)
    weights = [weight for name, weight in critic.named_parameters() if name.endswith("weight")]
    both = [
        torch.autograd.grad(penalties.sum(), weights)
        for penalties in ((expected.flatten(1).norm(dim=1) - 1) ** 2, penalty(critic, matrix.detach()))
    ]
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*both, strict=True))


@pytest.mark.parametrize("architecture", ["oqmd", "icsd_mp"])
@pytest.mark.parametrize("n_elements", [1, 2, 7, 85])
def test_convolutions_of_one_channel_are_convolutions(architecture, n_elements):
    torch.manual_seed(0)
    critic, generator = Critic(n_elements, architecture, batch_norm=True), Generator(n_elements, architecture)
    first, last = critic.blocks[0].double(), generator.blocks[-2].double()
    picture = torch.rand(3, 1, n_elements, 8, dtype=torch.float64)
    assert torch.allclose(first(picture), nn.Conv2d.forward(first, picture), atol=1e-12)
    made = torch.rand_like(first(picture))
    assert torch.allclose(last(made), nn.ConvTranspose2d.forward(last, made), atol=1e-12)


@pytest.mark.parametrize(("length", "expected"), [(1, 0), (3, 4), (0, 1), (0.5, 0.25)])
def test_gradient_penalty(length, expected):
    """A critic whose gradients all have one length."""

    class Linear(Critic):
        def gradient(self, matrix_BEK):
            direction = super().gradient(matrix_BEK)
            return length * direction / direction.flatten(1).norm(dim=1)[:, None, None]

    torch.manual_seed(0)
    found = penalty(Linear(6, "icsd_mp", batch_norm=False), torch.rand(5, 6, 8))
    assert found.tolist() == pytest.approx([expected] * 5, abs=1e-5)


def test_penalty_is_of_single_samples():
    """Other samples of the batch do not change a sample's gradient, which BatchNorm would break."""
    torch.manual_seed(0)
    critic = Critic(6, "icsd_mp", batch_norm=False)
    batch = torch.rand(4, 6, 8)
    assert torch.allclose(critic.gradient(batch)[:1], critic.gradient(batch[:1]), atol=1e-6)


@pytest.mark.parametrize("architecture", ["oqmd", "icsd_mp"])
def test_folded_norms_draw_the_same(architecture):
    torch.manual_seed(0)
    generator = Generator(42, architecture)
    for _ in range(3):
        generator(torch.randn(32, 128))  # statistics of its own
    noise = torch.randn(5, 128)
    expected = generator.eval()(noise)
    matgan.fold_norms(generator)
    assert torch.allclose(generator(noise), expected, atol=1e-5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in generator.modules())


def test_frozen_and_gradient_norm():
    critic = nn.Linear(48, 1, bias=False)
    with frozen(critic):
        assert not critic.weight.requires_grad
    assert critic.weight.requires_grad
    (3 * critic.weight.sum()).backward()
    assert gradient_norm(critic).item() == pytest.approx(3 * np.sqrt(48))


# Training -------------------------------------------------------------------------------------------------------------

CONSTRAINTS = ["weight_clipping", "gradient_penalty"]


def settings(constraint: str, **changes):
    preset = PRESETS["paper_icsd_mp" if constraint == "weight_clipping" else "default"]
    small = {"epochs": 4, "batch_size": 16, "critic_steps": 2, "generator_rate": 1e-3, "critic_rate": 1e-3}
    return dataclasses.replace(preset, **{**small, **changes})


@pytest.fixture(scope="module")
def counts_NE() -> np.ndarray:
    random = np.random.default_rng(0)
    counts = random.integers(1, 9, (100, len(VOCABULARY)), dtype=np.uint8)
    return counts * (random.random(counts.shape) < 0.4)


class Killed(Exception):
    """Stands for a job that the scheduler ends."""


def trained(counts_NE, chosen, folder=None, seed=1, kill_after=None, fingerprint="same", n_samples=50):
    """Weights and the progress of one run; killed after the checkpoint of an epoch, or in the midst of the next."""
    progress = Progress(folder, fingerprint, seed, n_samples)
    if kill_after is not None:
        record, epochs_done = progress.record, lambda: len(progress.history)

        def record_or_die(**values):
            if epochs_done() >= kill_after:
                raise Killed
            record(**values)

        progress.record = record_or_die
    tensors = {"counts": counts_NE}
    weights = train(tensors, vocabulary=VOCABULARY, settings=chosen, seed=seed, device="cpu", progress=progress)
    return weights, progress


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def drawn(progress) -> dict[int, list[str]]:
    return {epoch: batch.formulas().to_pylist() for epoch, batch in progress.epoch_samples.items()}


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_same_seed_same_weights(counts_NE, constraint):
    chosen = settings(constraint, epochs=2)
    one, first = trained(counts_NE, chosen)
    torch.rand(10)  # what happened before has no say
    other, second = trained(counts_NE, chosen)
    assert same(one, other) and first.history == second.history and drawn(first) == drawn(second)
    assert not same(one, trained(counts_NE, chosen, seed=2)[0])


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_samples_of_an_epoch_leave_training_alone(counts_NE, constraint):
    chosen = settings(constraint, epochs=2)
    assert same(trained(counts_NE, chosen, n_samples=0)[0], trained(counts_NE, chosen, n_samples=50)[0])


@pytest.mark.usefixtures("each_epoch_saved")
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("kill_after", [1, 3])
def test_resumed_run_equals_an_uninterrupted_one(counts_NE, constraint, kill_after, tmp_path, capsys):
    chosen = settings(constraint)
    whole, expected = trained(counts_NE, chosen)
    with pytest.raises(Killed):
        trained(counts_NE, chosen, tmp_path, kill_after=kill_after)
    resumed, progress = trained(counts_NE, chosen, tmp_path)
    assert f"resuming after epoch {kill_after}" in capsys.readouterr().err
    assert same(whole, resumed)
    assert progress.history == expected.history and len(progress.history) == 4
    assert drawn(progress) == drawn(expected) and list(drawn(progress)) == [1, 2, 3, 4]


def test_a_run_killed_after_its_last_epoch(counts_NE, tmp_path):
    chosen = settings("weight_clipping", epochs=2)
    whole, expected = trained(counts_NE, chosen, tmp_path)
    again, progress = trained(counts_NE, chosen, tmp_path)
    assert same(whole, again) and progress.history == expected.history


@pytest.mark.parametrize("damage", ["other", "truncated", "empty", "no header", "foreign"])
def test_a_checkpoint_that_does_not_belong_is_left_unused(counts_NE, damage, tmp_path, capsys):
    chosen = settings("gradient_penalty", epochs=2)
    expected, _ = trained(counts_NE, chosen)
    with pytest.raises(Killed):
        trained(counts_NE, chosen, tmp_path, kill_after=1)
    path = tmp_path / FILE
    whole = path.read_bytes()
    if damage == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    elif damage != "other":
        path.write_bytes({"truncated": whole[:-100], "empty": b"", "no header": b"\0" * 500}[damage])
    found, progress = trained(counts_NE, chosen, tmp_path, fingerprint="other" if damage == "other" else "same")
    assert "training starts afresh" in capsys.readouterr().err
    assert same(found, expected) and len(progress.history) == 2


@pytest.mark.usefixtures("each_epoch_saved")
def test_clipping_bounds_the_critics_weights(counts_NE, monkeypatch):
    seen = []
    monkeypatch.setattr(Progress, "_save", lambda self: seen.append(self._state["critic"]))
    trained(counts_NE, settings("weight_clipping", epochs=1, clip_value=0.02))
    weights = torch.cat([weight.flatten() for weight in seen[0].parameters()])
    assert weights.abs().max() <= np.float32(0.02) and (weights.abs() == np.float32(0.02)).any()
    trained(counts_NE, settings("gradient_penalty", epochs=1))
    assert max(weight.abs().max() for weight in seen[1].parameters()) > 0.02


def test_history_holds_what_the_report_draws(counts_NE):
    _, progress = trained(counts_NE, settings("gradient_penalty", epochs=2))
    names = {"epoch", "critic_loss", "generator_loss", "wasserstein_estimate"}
    names |= {"critic_gradient_norm", "generator_gradient_norm"}
    assert [row["epoch"] for row in progress.history] == [1, 2]
    assert all(row.keys() == names and np.isfinite(list(row.values())).all() for row in progress.history)


def test_divergence_is_named_with_its_mend(counts_NE, tmp_path):
    with pytest.raises(ValueError, match=r"training diverged in epoch 1 .*lower training\.settings' learning rates"):
        trained(counts_NE, settings("gradient_penalty", critic_rate=1e30), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [1, 3])
def test_a_set_smaller_than_a_batch(counts_NE, n):
    for constraint in CONSTRAINTS:
        trained(counts_NE[:n], settings(constraint, epochs=1))


def test_training_learns_the_commonest_element():
    """Every formula holds oxygen, none holds bromine: after a minute part of training, so do samples."""
    random = np.random.default_rng(0)
    counts = np.zeros((256, 6), np.uint8)
    counts[:, 1] = 2
    counts[np.arange(256), random.choice([0, 2, 3, 4], 256)] = random.choice([1, 3], 256)
    chosen = settings("gradient_penalty", epochs=25, batch_size=32, generator_rate=2e-3, critic_rate=2e-3)
    weights, _ = trained(counts, chosen, n_samples=0)
    batch = draw(weights, VOCABULARY, chosen, 500, 1, "cpu")
    dense = batch.compositions.dense(VOCABULARY)
    assert len(dense) > 10
    assert (dense[:, 1] > 0).mean() > 0.95 and (dense[:, 5] == 0).mean() > 0.95


# Drawing --------------------------------------------------------------------------------------------------------------


def test_draw_counts_add_up_and_repeat():
    torch.manual_seed(0)
    weights = weights_of(Generator(6, "icsd_mp"))
    chosen = settings("weight_clipping", threshold=0.505)
    batch = draw(weights, VOCABULARY, chosen, 1500, 7, "cpu")
    assert batch.n_drawn == 1500 == len(batch.compositions) + batch.n_ambiguous + batch.n_empty
    again = draw(weights, VOCABULARY, chosen, 1500, 7, "cpu")
    assert batch.compositions.formulas() == again.compositions.formulas()
    assert batch.compositions.reduced().same_as(batch.compositions).all()


@pytest.mark.parametrize(("bias", "ambiguous", "empty"), [(9.0, 20, 0), (-9.0, 0, 20)])
def test_draw_that_says_nothing(bias, ambiguous, empty):
    network = Generator(6, "icsd_mp")
    with torch.no_grad():
        network.blocks[-2].weight.zero_()
        network.blocks[-2].bias.fill_(bias)
    batch = draw(weights_of(network), VOCABULARY, settings("weight_clipping"), 20, 1, "cpu")
    assert (len(batch.compositions), batch.n_ambiguous, batch.n_empty) == (0, ambiguous, empty)
    assert batch.compositions.formulas().to_pylist() == []


def test_draw_maps_columns_to_elements():
    """A generator that always says two of the third element and three of the second: Na2O3."""
    network = Generator(6, "icsd_mp")
    fixed = torch.zeros(1, 6, 8)
    fixed[0, 2, 1] = fixed[0, 1, 2] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generator, "forward", lambda self, noise: fixed.expand(len(noise), 6, 8))
        batch = draw(weights_of(network), VOCABULARY, settings("weight_clipping"), 3, 1, "cpu")
    assert batch.compositions.same_as(Compositions.from_formulas(["Na2O3"] * 3)).all()


def test_load():
    assert load("matgan") is matgan
