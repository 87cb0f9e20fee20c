"""The sequence GAN: probabilities, draws, substitutions, and training that can be killed."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pipeline.composition import Compositions
from pipeline.generators.checkpoints import Progress
from pipeline.generators.seqgan import (
    PRESETS,
    Critic,
    Generator,
    _reduced,
    choose,
    dense,
    draw,
    families,
    substitute,
    train,
)

VOCABULARY = [3, 8, 9, 11, 17, 19, 35]  # Li O F Na Cl K Br
SALTS = [{c: 1, a: 1} for c in (3, 11, 19) for a in (9, 17, 35)] + [{c: 2, 8: 1} for c in (3, 11, 19)]
SETTINGS = dataclasses.replace(PRESETS["default"], likelihood_epochs=3, adversarial_epochs=2, batch_size=8, width=16)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def matrix(formulas=SALTS) -> np.ndarray:
    return Compositions.from_dicts(formulas).dense(np.array(VOCABULARY)).astype(np.uint8)


def run(settings=SETTINGS, progress=None, seed=1):
    progress = progress or Progress(None, "", seed)
    tensors = {"counts": matrix()}
    weights = train(tensors, vocabulary=VOCABULARY, settings=settings, seed=seed, device="cpu", progress=progress)
    return weights, progress


def generator(vocabulary, formulas) -> Generator:
    torch.manual_seed(0)
    made = Generator(vocabulary, 16)
    made.set_frequencies(torch.from_numpy(formulas))
    return made


def test_probabilities_of_all_formulas_of_a_size_sum_to_one():
    vocabulary = [8, 3, 17]  # not in the order of groups, on purpose
    pairs = [
        [k if e == i else m if e == j else 0 for e in range(3)]
        for i, j in itertools.combinations(range(3), 2)
        for k, m in itertools.product(range(1, 9), repeat=2)
    ]
    network = generator(vocabulary, np.array(pairs[:10], dtype=np.uint8))
    with torch.no_grad():
        total = network.likelihood(torch.tensor(pairs, dtype=torch.uint8)).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


def test_what_was_drawn_has_the_probability_it_was_drawn_with():
    network = generator(VOCABULARY, matrix())
    sizes = torch.tensor([4, 3, 3, 2, 1])
    with torch.no_grad():
        elements, counts, _ = network(sizes, uniform_BS2=torch.rand(5, 4, 2))
        said = network(sizes, elements, counts)[2]
        again = network.likelihood(dense(sizes, elements, counts, len(VOCABULARY)))
    assert torch.allclose(said[[0, 3, 4]], again[[0, 3, 4]], atol=1e-5)
    assert torch.allclose(said[1:3].sort()[0], again[1:3].sort()[0], atol=1e-5)


@pytest.mark.parametrize("sizes", [[7, 7, 6], [2] * 50, [1]])
def test_no_element_is_said_twice_and_each_formula_has_its_size(sizes):
    network = generator(VOCABULARY, matrix())
    sizes = torch.tensor(sizes)
    with torch.no_grad():
        counts_BE = dense(sizes, *network(sizes, uniform_BS2=torch.rand(len(sizes), 7, 2))[:2], len(VOCABULARY))
    assert counts_BE.dtype == torch.uint8 and counts_BE.shape == (len(sizes), len(VOCABULARY))
    assert torch.equal((counts_BE > 0).sum(1), sizes)
    assert int(counts_BE.max()) <= 8


def test_choices_follow_their_chances():
    chances = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0])
    uniform = torch.linspace(0, 1, 4001)[:-1]
    places = choose(chances.expand(4000, 5), uniform)
    assert torch.bincount(places, minlength=5).tolist() == [0, 3000, 0, 1000, 0]
    largest = torch.tensor([1 - 2**-24])
    assert choose(chances[None], largest).tolist() == [3]


def test_what_was_drawn_is_what_was_probable():
    """Of many draws of one element, each with its count comes as often as the network says."""
    network = generator(VOCABULARY, matrix())
    sizes, one = torch.ones(40000, dtype=torch.long), torch.ones(56, dtype=torch.long)
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(8))
    torch.manual_seed(1)
    with torch.no_grad():
        elements, counts, _ = network(sizes, uniform_BS2=torch.rand(40000, 1, 2))
        expected = network(one, pairs[:, :1], pairs[:, 1:])[2].exp()
    found = torch.bincount(elements[:, 0] * 8 + counts[:, 0], minlength=56) / 40000
    assert float(expected.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(found, expected, atol=0.01)


def test_elements_are_said_by_group():
    network = generator([8, 11, 17], np.array([[1, 2, 0]], dtype=np.uint8))
    with torch.no_grad():
        elements, _, _ = network(torch.tensor([3, 3, 3]), uniform_BS2=torch.rand(3, 3, 2))
    assert elements.tolist() == [[1, 0, 2]] * 3  # Na O Cl


def test_families_are_valences():
    names = {"H": 1, "Li": 3, "Na": 11, "Cs": 55, "O": 8, "S": 16, "Te": 52, "Fe": 26, "Os": 76, "La": 57, "Lu": 71}
    names |= {"Y": 39, "U": 92, "Al": 13, "B": 5, "Ga": 31, "Hf": 72, "Zr": 40, "Ba": 56, "Be": 4, "Rn": 86, "Xe": 54}
    family = dict(zip(names, families(list(names.values())).tolist(), strict=True))
    together = [("Li", "Na", "Cs"), ("S", "Te"), ("Fe", "Os"), ("La", "Lu", "Y"), ("Al", "Ga"), ("Hf", "Zr")]
    together += [("Ba", "Be"), ("Rn", "Xe"), ("H",), ("O",), ("U",), ("B",)]
    assert sorted(map(sorted, together)) == sorted(
        sorted(name for name in family if family[name] == one) for one in set(family.values())
    )


def test_substitution_keeps_families_and_frequencies():
    torch.manual_seed(0)
    data = torch.from_numpy(matrix([{11: 1, 17: 1}] * 3 + [{3: 1, 17: 1}, {19: 2, 8: 1}])).repeat(2000, 1)
    frequency = (data > 0).float().mean(0)
    family = families(VOCABULARY)
    chances = (family[:, None] == family) * frequency
    new = substitute(data, chances, torch.rand(len(data), 1, 2))
    assert not torch.equal(new, data)
    assert torch.equal(new.sum(1), data.sum(1)) and torch.equal((new > 0).sum(1), (data > 0).sum(1))
    for one in family.unique():
        assert torch.equal(new[:, family == one].sum(1), data[:, family == one].sum(1))
    assert torch.allclose((new > 0).float().mean(0), frequency, atol=0.02)


def test_a_substitute_in_the_formula_already_changes_counts():
    formula, other = torch.tensor([[2, 1]], dtype=torch.uint8), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    swapped = substitute(formula, other, torch.rand(1, 1, 2))
    assert swapped.tolist() == [[1, 2]]


def test_the_critic_sees_sets_of_elements():
    torch.manual_seed(0)
    critic = Critic(len(VOCABULARY), 16, 0.2).eval()
    counts_NE = torch.from_numpy(matrix())
    with torch.no_grad():
        alone = torch.cat([critic(row[None]) for row in counts_NE])
        assert critic(counts_NE).shape == (len(counts_NE),)
        assert torch.allclose(critic(counts_NE), alone, atol=1e-5)


def test_reduced():
    given = torch.tensor([[4, 2, 0], [3, 0, 0], [2, 3, 4]], dtype=torch.uint8)
    assert _reduced(given).tolist() == [[2, 1, 0], [1, 0, 0], [2, 3, 4]]


def test_training_learns_the_salts():
    settings = dataclasses.replace(SETTINGS, likelihood_epochs=150, adversarial_epochs=5, substitutions=0, width=32)
    weights, progress = run(settings)
    losses = [row["negative_log_likelihood"] for row in progress.history[:150]]
    assert losses[-1] < losses[0] / 2
    assert "critic_loss" in progress.history[-1]
    drawn = draw(weights, VOCABULARY, settings, 500, 3, "cpu")
    known = set(Compositions.from_dicts(SALTS).formulas())
    assert np.mean([formula in known for formula in drawn.compositions.formulas()]) > 0.8


def test_same_seed_same_weights_and_draws():
    first, again, other = run()[0], run()[0], run(seed=2)[0]
    assert save(first) == save(again) != save(other)
    drawn = [draw(first, VOCABULARY, SETTINGS, 300, seed, "cpu").compositions.formulas() for seed in (3, 3, 4)]
    assert list(drawn[0]) == list(drawn[1]) != list(drawn[2])
    batch = draw(first, VOCABULARY, SETTINGS, 300, 3, "cpu")
    assert (len(batch.compositions), batch.n_drawn, batch.n_ambiguous, batch.n_empty) == (300, 300, 0, 0)


@pytest.mark.usefixtures("each_epoch_saved")
@pytest.mark.parametrize("killed_after", [1, 3, 4])  # in the likelihood phase, between both, in the adversarial one
def test_a_killed_run_goes_on_to_the_same_weights_and_history(tmp_path, monkeypatch, killed_after):
    whole, through = run(progress=Progress(tmp_path / "whole", "a", 1, n_samples=20))

    class Killed(Progress):
        def _save(self):
            super()._save()
            if len(self.history) == killed_after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=Killed(tmp_path / "killed", "a", 1, n_samples=20))
    resumed, progress = run(progress=Progress(tmp_path / "killed", "a", 1, n_samples=20))
    assert save(resumed) == save(whole)
    assert progress.history == through.history and len(progress.history) == 5
    assert list(progress.epoch_samples) == list(through.epoch_samples) == [1, 2, 3, 4, 5]
    for epoch, ours in progress.epoch_samples.items():
        assert list(ours.formulas()) == list(through.epoch_samples[epoch].formulas())
