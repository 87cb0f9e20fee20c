"""The attention learner: invariances of a formula, same bytes, what it learns, and its file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.composition import Compositions
from pipeline.screening import attention, muon
from pipeline.screening.attention import Attention, AttentionTraining
from pipeline.screening.features import element_properties, magpie
from pipeline.screening.learners import Inputs
from pipeline.weights import read_weights, write_weights

VOCABULARY = [1, 3, 8, 11, 13, 14, 16, 17, 19, 20, 22, 26, 29, 30, 37, 38]
ELECTRONEGATIVITY = 7  # of Magpie's properties
SMALL = AttentionTraining(epochs=10, width=32, layers=2, heads=2, batch_size=50, learning_rate=1e-2, device="cpu")


def random_formulas(n: int, seed: int) -> Compositions:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        chosen = random.choice(VOCABULARY, random.integers(1, 6), replace=False)
        rows.append({int(z): int(random.integers(1, 7)) for z in chosen})
    return Compositions.from_dicts(rows)


def spread(compositions: Compositions) -> np.ndarray:
    """Largest difference of electronegativity, weighted by the shares of both elements: a target that is known."""
    values = element_properties()[:, ELECTRONEGATIVITY]
    out = []
    for start, end in zip(compositions.offsets, compositions.offsets[1:], strict=False):
        x, f = values[compositions.elements[start:end]], compositions.counts[start:end].astype(float)
        f = f / f.sum()
        out.append((f[:, None] * f[None] * np.abs(x[:, None] - x[None])).sum())
    return np.array(out)


def inputs(compositions: Compositions, features: bool = True) -> Inputs:
    return Inputs(compositions, magpie(compositions) if features else np.empty((len(compositions), 0)))


def learn(settings=SMALL, *, task="regression", n=600, seed=3, threads=1, features=True, targets=spread):
    sets = [inputs(random_formulas(n, seed=10), features), inputs(random_formulas(200, seed=11), features)]
    return attention.fit(
        sets[0],
        targets(sets[0].compositions),
        sets[1],
        targets(sets[1].compositions),
        task=task,
        vocabulary=VOCABULARY,
        settings=settings,
        seed=seed,
        threads=threads,
        report=lambda row: None,
    )


@pytest.fixture(scope="module")
def plain() -> Attention:
    return learn(replace(SMALL, epochs=15), n=800, features=False)


@pytest.fixture(scope="module")
def pair() -> Attention:
    return learn(replace(SMALL, epochs=2, members=2), n=100)


def test_a_known_function_is_learnt(plain):
    """Without any features of the formula: by attention alone."""
    test = random_formulas(500, seed=12)
    target = spread(test)
    error = np.abs(plain.predict(inputs(test, False), 1) - target).mean()
    assert error < 0.15 * np.abs(target - target.mean()).mean()
    errors = [row["validation_mae"] for row in plain.history]
    assert min(errors) < 0.2 * errors[0]
    assert [row["epoch"] for row in plain.history] == list(range(len(errors)))


def test_the_order_of_elements_does_not_matter(plain):
    """Compositions have one order; here another is forced on them."""
    rows = random_formulas(100, seed=13)
    reverse = np.concatenate(
        [np.arange(end - 1, start - 1, -1) for start, end in zip(rows.offsets, rows.offsets[1:], strict=False)]
    )
    turned = Compositions(rows.offsets, rows.elements[reverse], rows.counts[reverse])
    assert (turned.elements != rows.elements).any()
    np.testing.assert_allclose(
        plain.predict(inputs(turned, False), 1), plain.predict(inputs(rows, False), 1), atol=1e-5
    )


def test_a_multiple_of_a_formula_is_the_formula(plain):
    rows = random_formulas(100, seed=14)
    thrice = Compositions(rows.offsets, rows.elements, rows.counts * np.uint16(3))
    assert np.array_equal(plain.predict(inputs(thrice, False), 1), plain.predict(inputs(rows, False), 1))


def test_the_company_and_order_of_rows_do_not_matter(pair, monkeypatch):
    rows = inputs(random_formulas(300, seed=15))
    together = pair.predict(rows, 1)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_allclose(pair.predict(rows.take(order), 1), together[order], atol=1e-5)
    alone = np.concatenate([pair.predict(rows.take(np.array([row])), 1) for row in range(20)])
    np.testing.assert_allclose(alone, together[:20], atol=1e-5)
    monkeypatch.setattr(attention, "INFERENCE_TOKENS", 7)
    monkeypatch.setattr(attention, "INFERENCE_BLOCK", 50)
    np.testing.assert_allclose(pair.predict(rows, 1), together, atol=1e-5)
    assert pair.predict(rows.take(np.arange(0)), 1).shape == (0,)


def test_fractions_and_elements_do_matter(plain):
    values = plain.predict(inputs(Compositions.from_formulas(["NaCl", "NaCl3", "KCl", "NaAl"]), False), 1)
    assert len(np.unique(values.round(3))) == 4


def test_same_seed_same_bytes(tmp_path, pair):
    for name, seed, threads in (("again", 3, 1), ("two_threads", 3, 2), ("other", 4, 1)):
        learn(replace(SMALL, epochs=2, members=2), n=100, seed=seed, threads=threads).save(tmp_path / name)
    torch.set_num_threads(1)
    pair.save(tmp_path / "one")
    one, again, two_threads, other = (
        (tmp_path / name).read_bytes() for name in ("one", "again", "two_threads", "other")
    )
    assert one == again == two_threads
    assert one != other


def test_what_is_saved_is_what_was_trained(tmp_path, pair):
    rows = inputs(random_formulas(300, seed=16))
    pair.save(tmp_path / "weights")
    read = Attention.load(tmp_path / "weights", VOCABULARY)
    assert np.array_equal(read.predict(rows, 1), pair.predict(rows, 1))
    assert read.history == pair.history and read.settings == replace(pair.settings, device="auto")
    tensors, _ = read_weights(tmp_path / "weights")
    assert {str(tensors[name].dtype) for name in tensors if not name.startswith("feature")} == {"torch.float16"}


def test_members_are_networks_of_their_own_and_their_mean_counts(pair):
    rows = inputs(random_formulas(50, seed=17))
    each = [replace(pair, networks=[network]).predict(rows, 1) for network in pair.networks]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(pair.predict(rows, 1), (each[0] + each[1]) / 2, rtol=1e-12)
    assert [(row["member"], row["epoch"]) for row in pair.history] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_classification_gives_probabilities():
    model = learn(task="classification", n=800, features=False, targets=lambda rows: spread(rows) > 0.25)
    test = random_formulas(500, seed=18)
    probability, truth = model.predict(inputs(test, False), 1), spread(test) > 0.25
    assert (probability > 0).all() and (probability < 1).all()
    assert ((probability > 0.5) == truth).mean() > 0.9
    assert abs(probability.mean() - truth.mean()) < 0.1
    assert {"member", "epoch", "train_cross_entropy", "validation_cross_entropy"} == set(model.history[0])


def test_features_tell_what_the_formula_does_not():
    """Here they are noise to the elements, and the target."""
    random = np.random.default_rng(0)
    compositions = [random_formulas(n, seed) for n, seed in ((600, 20), (100, 21), (200, 22))]
    train, validation, test = (Inputs(each, random.normal(size=(len(each), 3)) * 50 + 7) for each in compositions)
    for known, share in ((True, 0.2), (False, 0.8)):
        model = attention.fit(
            train,
            train.features_NF[:, 1],
            validation,
            validation.features_NF[:, 1],
            task="regression",
            vocabulary=VOCABULARY,
            settings=replace(SMALL, epochs=6, features=known),
            seed=0,
            threads=1,
            report=lambda row: None,
        )
        target = test.features_NF[:, 1]
        error = np.abs(model.predict(test, 1) - target).mean() / np.abs(target - target.mean()).mean()
        assert (error < share) == known


def test_unknown_and_constant_features_are_zero():
    scaling = attention._scaling(np.array([[1.0, np.nan, 5.0, np.nan], [3.0, 2.0, 5.0, np.nan]]))
    rows = np.array([[2.0, np.nan, 5.0, np.nan], [4.0, 2.0, 6.0, 1.0], [1e9, np.inf, 5.0, 0.0]])
    scaled = attention._standardised(rows, scaling)
    assert np.array_equal(scaled, [[0, 0, 0, 0], [2, 0, 1, 1], [5, 0, 0, 0]])


def test_the_steps_of_muon_are_orthogonal():
    """Singular vectors stay, large singular values become about 1 (0.7 to 1.2, Jordan et al.), whatever the shape."""
    for shape in ((3, 8, 20), (2, 20, 8), (2, 16, 16)):
        matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        turned = u.mT @ muon.orthogonal(matrices) @ vh.mT
        values = turned.diagonal(dim1=1, dim2=2)
        assert (turned - torch.diag_embed(values)).abs().max() < 1e-9
        large = s > 0.1 * s.sum(dim=1, keepdim=True)
        assert values[large].min() > 0.6 and values.max() < 1.3


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    shares = [attention._share_of_peak(progress) for progress in (0, 0.025, 0.05, 0.525, 1)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_training_ends_when_validation_no_longer_improves():
    """Targets that are noise: the best epoch is early, and the weights are those of it."""

    def noise(rows):
        return np.random.default_rng(len(rows)).normal(size=len(rows))

    settings = replace(SMALL, epochs=200, patience=4)
    model = learn(settings, n=200, targets=noise, features=False)
    errors = [row["validation_mae"] for row in model.history]
    assert len(errors) == int(np.argmin(errors)) + 1 + 4 < 200
    validation = random_formulas(200, seed=11)
    error = np.abs(model.predict(inputs(validation, False), 1) - noise(validation)).mean()
    assert error == pytest.approx(min(errors), abs=2e-3)  # rounded to float16 since


def test_progress_is_reported():
    said = []
    sets = [inputs(random_formulas(n, seed=n), False) for n in (100, 30)]
    model = attention.fit(
        sets[0],
        spread(sets[0].compositions),
        sets[1],
        spread(sets[1].compositions),
        task="regression",
        vocabulary=VOCABULARY,
        settings=replace(SMALL, epochs=2),
        seed=0,
        threads=1,
        report=said.append,
    )
    assert said == model.history and len(said) == 2


def test_an_element_outside_the_vocabulary_is_our_own_mistake(plain):
    with pytest.raises(AssertionError, match="outside the vocabulary"):
        plain.predict(inputs(Compositions.from_formulas(["NaCl", "UO2"]), False), 1)


def test_a_damaged_or_foreign_file_is_named(tmp_path, pair):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        Attention.load(path, VOCABULARY)
    pair.save(path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"weights\.safetensors: of 16 elements"):
        Attention.load(path, VOCABULARY[1:])
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"weights\.safetensors"):
            Attention.load(path, VOCABULARY)
    write_weights(path, {"a": torch.zeros(1)}, {"learner": "elemnet"})
    with pytest.raises(ValueError, match=r"weights\.safetensors: not the weights of an attention model"):
        Attention.load(path, VOCABULARY)
