"""CrystalGAN: its distance rule, its networks' symmetries, its steps, and its draws."""

import numpy as np
import pytest
import torch

from pipeline.cells import Cell
from pipeline.generators import crystalgan
from pipeline.generators.checkpoints import Progress
from pipeline.generators.crystalgan import PRESETS, Settings, dense, draw, graph, train
from pipeline.generators.crystalgan.adversarial import Exchange
from pipeline.generators.crystalgan.crystals import A_BLOCK, B_BLOCK, SLOTS, X_BLOCK, Crystals, domains
from pipeline.generators.crystalgan.domains import tensor_of
from pipeline.generators.crystalgan.geometry import (
    contact_loss,
    like_distances,
    like_neighbours,
    obeys,
    published_loss,
    window_loss,
)
from pipeline.training.settings import settings_of

H, NI, PD = 1, 28, 46
NETWORKS = {"dense": dense, "graph": graph}


def rocksalt(metal: int, edge: float, anion: int = H) -> Cell:
    """The cubic cell of MH: metals on the corners and faces, hydrogen between them along the edges."""
    faces = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    elements = np.array([metal] * 4 + [anion] * 4, dtype=np.uint8)
    return Cell(np.eye(3) * edge, elements, np.vstack([faces, (faces + np.array([0.5, 0, 0])) % 1]))


def tensors(n: int = 4) -> dict[str, np.ndarray]:
    """``n`` rocksalt crystals of Pd-H and of Ni-H, their edges growing."""
    rows = [(side, rocksalt(metal, 3.7 + 0.1 * k)) for side, metal in enumerate((PD, NI)) for k in range(n)]
    packed = [tensor_of(cell, [H, PD, NI]) for _, cell in rows]
    return {
        "tensor": np.array([tensor for tensor, _ in packed]),
        "occupied": np.array([occupied for _, occupied in packed], dtype=np.uint8),
        "elements": np.array([[H, PD, NI]] * len(rows), dtype=np.uint8),
        "domain": np.array([[side] for side, _ in rows], dtype=np.uint8),
    }


def messy(n: int = 3, dtype: torch.dtype = torch.float64) -> Crystals:
    """Skewed cells of 2 H, 2 Pd, 1 Ni and an empty slot."""
    random = torch.Generator().manual_seed(3)
    lattice = torch.eye(3, dtype=dtype) * 4.5 + 0.4 * torch.randn(n, 3, 3, generator=random, dtype=dtype)
    cartesian = torch.rand(n, 6, 3, generator=random, dtype=dtype) @ lattice
    elements = torch.tensor([[H, H, PD, PD, NI, 0]] * n)
    cartesian[:, 5] = 0
    return Crystals(lattice, cartesian, elements, torch.tensor([[H, PD, NI]] * n))


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: a new generator of the graph kind moves nothing."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.15 * torch.randn(weight.shape, generator=random))
    return module


def test_distances_of_rocksalt_are_those_of_the_head():
    hydrogen, metal = like_distances(rocksalt(PD, 4.0), H)
    assert hydrogen == pytest.approx(np.full(4, 4.0 / np.sqrt(2)))
    assert metal == pytest.approx(np.full(4, 4.0 / np.sqrt(2)))


def test_an_atom_alone_has_its_image_as_neighbour():
    cell = Cell(np.diag([2.5, 4.0, 5.0]), np.array([H, PD], dtype=np.uint8), np.array([[0, 0, 0], [0.5] * 3]))
    assert [distance.tolist() for distance in like_distances(cell, H)] == [[2.5], [2.5]]


def mixed(edge: float) -> Cell:
    cell = rocksalt(PD, edge)
    cell.elements[0] = NI
    return cell


def test_the_rule_wants_two_metals_the_anion_and_every_distance_within_the_window():
    assert obeys(mixed(4.0), H)
    assert not obeys(rocksalt(PD, 4.0), H), "one metal"
    assert not obeys(mixed(4.3), H), "3.04 angstrom apart"
    assert not obeys(mixed(2.5), H), "1.77 angstrom apart"
    cell = mixed(4.0)
    assert not obeys(Cell(cell.lattice, np.where(cell.elements == H, NI, cell.elements), cell.fractional), H)


def test_differentiable_distances_equal_the_exact_ones():
    crystals = messy(6)
    distances, present = like_neighbours(crystals.lattice, crystals.cartesian, crystals.elements, H)
    assert present.sum() == 30
    for row in range(6):
        lattice = crystals.lattice[row].numpy()
        fractional = crystals.cartesian[row, :5].numpy() @ np.linalg.inv(lattice)
        cell = Cell(lattice, crystals.elements[row, :5].numpy().astype(np.uint8), fractional)
        expected = np.concatenate(like_distances(cell, H))
        assert distances[row, :5].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", ["published", "window", "contact"])
def test_geometric_losses_have_the_gradient_of_finite_differences(loss):
    crystals = messy()

    def value(lattice, cartesian):
        if loss == "contact":
            return contact_loss(lattice, cartesian, crystals.elements, H, 1.5)
        distances, present = like_neighbours(lattice, cartesian, crystals.elements, H)
        return (published_loss if loss == "published" else window_loss)(distances, present, 1.8, 3.0)

    place = crystals.lattice.requires_grad_(True), crystals.cartesian.requires_grad_(True)
    assert value(*place) != 0
    assert torch.autograd.gradcheck(value, place)
    gradients = torch.autograd.grad(value(*place), place)
    assert all(gradient.abs().sum() > 0 for gradient in gradients), "both lattice and coordinates have a path"


def test_published_loss_by_hand_rewards_distance_from_d2_and_pulls_equal_atoms_together():
    present = torch.tensor([[True, True, False]])

    def published(*distances: float) -> float:
        return float(published_loss(torch.tensor([[*distances, 1.8]], dtype=torch.float64), present, 1.8, 3.0))

    assert published(2.0, 2.5) == pytest.approx(0.2**2 - 0.5**2)
    assert published(1.8, 100.0) == pytest.approx(-(1.2**2))
    assert published(1.8, 1.8) > published(1.0, 1.0) > published(0.0, 0.0) == pytest.approx(1.8**2 - 3.0**2)
    far = torch.tensor([[1e3, 1e3, 1.8]], dtype=torch.float64)
    assert published_loss(far, present, 1e3, 3.0) < -9e5, "the second term has no bound"


def test_window_loss_is_zero_inside_only():
    present = torch.ones(1, 2, dtype=torch.bool)
    assert window_loss(torch.tensor([[1.9, 2.9]]), present, 1.8, 3.0) == pytest.approx(0, abs=1e-12)
    assert window_loss(torch.tensor([[1.8, 3.4]]), present, 1.8, 3.0) == pytest.approx((0.1**2 + 0.5**2) / 2)


def test_graph_networks_do_not_see_rotation_order_origin_or_images():
    crystals = messy(3, torch.float32)
    generator, critic = stirred(graph.Generator()), stirred(graph.Critic())

    def answers(given: Crystals) -> tuple[torch.Tensor, torch.Tensor]:
        moved = generator(given, given.elements, given.triple)
        distances, _ = like_neighbours(moved.lattice, moved.cartesian, moved.elements, H)
        return critic(given), distances[given.elements > 0].view(len(given.lattice), -1).sort().values

    logits, distances = answers(crystals)
    before, _ = like_neighbours(*crystals[:3], H)
    assert (distances - before[crystals.elements > 0].view(3, -1).sort().values).abs().max() > 0.01, "it moves atoms"
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    order = torch.tensor([5, 3, 0, 4, 2, 1])
    steps = torch.tensor([[1, -1, 0], [0, 2, 0], [0, 0, -1], [3, 0, 1], [0, 0, 0], [0, 0, 0]]).float()
    for changed in (
        crystals._replace(lattice=crystals.lattice @ rotation, cartesian=crystals.cartesian @ rotation),
        crystals._replace(cartesian=crystals.cartesian[:, order], elements=crystals.elements[:, order]),
        crystals._replace(cartesian=crystals.cartesian + steps @ crystals.lattice),
        crystals._replace(cartesian=crystals.cartesian + torch.tensor([0.3, 1.0, 0.2])),
        crystals._replace(lattice=crystals.lattice[:, [1, 2, 0]]),
    ):
        other_logits, other_distances = answers(changed)
        assert torch.allclose(other_logits, logits, atol=1e-3)
        assert torch.allclose(other_distances, distances, atol=1e-3)


def test_graph_critic_gives_a_supercell_the_same_logit():
    crystals = messy(1, torch.float32)
    doubled = Crystals(
        crystals.lattice * torch.tensor([2.0, 1.0, 1.0])[:, None],
        torch.cat([crystals.cartesian, crystals.cartesian + crystals.lattice[:, :1]], 1),
        crystals.elements.repeat(1, 2),
        crystals.triple,
    )
    critic = stirred(graph.Critic())
    assert torch.allclose(critic(doubled), critic(crystals), atol=1e-4)


def test_a_new_graph_generator_leaves_crystals_as_they_are():
    crystals = messy(2, torch.float32)
    moved = graph.Generator()(crystals, crystals.elements, crystals.triple)
    assert torch.equal(moved.cartesian, crystals.cartesian) and torch.equal(moved.lattice, crystals.lattice)


def test_graph_transfer_shares_the_metal_sites_and_leaves_the_anions():
    crystals, _ = domains(tensors(), "cpu")
    translated = crystals._replace(elements=graph.translated_elements(crystals), lattice=crystals.lattice * 1.1)
    torch.manual_seed(0)
    for _ in range(20):
        between = graph.transfer(crystals, translated)
        n_nickel, n_palladium = ((between.elements == z).sum(1) for z in (NI, PD))
        assert (n_nickel > 0).all() and (n_palladium > 0).all() and (n_nickel + n_palladium == 4).all()
        assert torch.equal(between.elements == H, crystals.elements == H)
        share = n_nickel / 4
        assert torch.allclose(between.lattice, crystals.lattice * (1 + 0.1 * share)[:, None, None])


def test_dense_transfer_fills_the_placeholder_with_the_translations_metal():
    for side, crystals in enumerate(domains(tensors(), "cpu")):
        sevens = torch.full_like(crystals.cartesian, 7.0)
        translated = Crystals(crystals.lattice * 2, sevens, dense.translated_elements(crystals), crystals.triple)
        between = dense.transfer(crystals, translated)
        own, new = ((A_BLOCK, B_BLOCK), (B_BLOCK, A_BLOCK))[side]
        assert torch.equal(between.cartesian[:, own], crystals.cartesian[:, own])
        assert (between.cartesian[:, new][between.elements[:, new] > 0] == 7).all()
        assert (between.cartesian[:, new][between.elements[:, new] == 0] == 0).all()
        assert torch.equal(between.lattice, crystals.lattice)
        assert torch.equal(between.cartesian[:, X_BLOCK], crystals.cartesian[:, X_BLOCK])
        for block, element in ((X_BLOCK, H), (A_BLOCK, PD), (B_BLOCK, NI)):
            assert ((between.elements[:, block] == element).sum(1) == 4).all()


def test_dense_networks_have_the_published_layers():
    layers = [tuple(layer.weight.shape) for layer in dense.Generator().layers if hasattr(layer, "weight")]
    assert layers == [(100, 216), *[(100, 100)] * 4, (216, 100)], "5 hidden layers of 100 units, 4 x 18 x 3 in and out"
    crystals, _ = domains(tensors(), "cpu")
    assert dense.flat(crystals).view(-1, 4, SLOTS, 3)[0, 0, :3].tolist() == crystals.lattice[0].tolist()
    assert (PRESETS["paper"].epochs, PRESETS["paper"].batch_size) == (1000, 35)


def small(preset: str, **changes) -> Settings:
    return settings_of(crystalgan, preset, {"epochs": 3, **changes})


@pytest.mark.parametrize("preset", PRESETS)
def test_training_draws_crystals_and_the_same_seed_gives_the_same(preset, tmp_path):
    settings = small(preset)
    progress = Progress(None, "", 1)
    weights = train(tensors(), vocabulary=[], settings=settings, seed=1, device="cpu", progress=progress)
    assert len(progress.history) == (6 if settings.method == "crystalgan" else 3)
    batch, again = (draw(weights, [], settings, 20, 7, "cpu") for _ in range(2))
    assert batch.n_drawn == 20 == len(batch.cells) + batch.n_empty
    assert len(batch.compositions) == len(batch.cells)
    for cell, other in zip(batch.cells, again.cells, strict=True):
        assert np.array_equal(cell.lattice, other.lattice) and np.array_equal(cell.fractional, other.fractional)
    if preset == "default":
        assert batch.n_empty == 0 and all(set(cell.elements.tolist()) == {H, PD, NI} for cell in batch.cells)
    other = draw(weights, [], settings, 20, 8, "cpu")
    if batch.cells and other.cells:
        assert not np.array_equal(batch.cells[0].fractional, other.cells[0].fractional)


@pytest.mark.parametrize(("n", "of_palladium"), [(1, {0, 1}), (8, {4}), (11, {5, 6}), (50, {25})])
def test_either_domain_makes_half_of_the_draws_and_its_sources_take_turns(n, of_palladium):
    data = tensors()
    data["tensor"][4:] *= 1.2  # Pd-H: edges of 3.7 to 4.0 angstrom; Ni-H: 4.44 to 4.8
    untrained = small("default", epochs=0)  # leaves the lattice of the source
    weights = train(data, vocabulary=[], settings=untrained, seed=1, device="cpu", progress=Progress(None, "", 1))
    edges = np.array([cell.lattice[0, 0] for cell in draw(weights, [], untrained, n, 7, "cpu").cells])
    assert len(edges) == n and (edges < 4.2).sum() in of_palladium
    for side in (edges[edges < 4.2], edges[edges > 4.2]):
        counts = np.unique(side.round(3), return_counts=True)[1]
        assert len(counts) == min(4, len(side)) and (counts.size == 0 or np.ptp(counts) <= 1)


@pytest.mark.usefixtures("each_epoch_saved")
@pytest.mark.parametrize("preset", ["paper", "default"])
def test_training_interrupted_in_either_step_ends_with_the_same_weights(preset, tmp_path):
    settings = small(preset)
    whole = train(tensors(), vocabulary=[], settings=settings, seed=1, device="cpu", progress=Progress(None, "", 1))

    class Interrupted(Exception):
        pass

    class Stopping(Progress):
        def steps(self, total):
            if len(self.history) == self.stop_at:
                raise Interrupted
            yield from super().steps(total)

    for stop_at in (2, 4):
        progress = Stopping(tmp_path / str(stop_at), "", 1)
        progress.stop_at = stop_at
        with pytest.raises(Interrupted):
            train(tensors(), vocabulary=[], settings=settings, seed=1, device="cpu", progress=progress)
        resumed = Progress(tmp_path / str(stop_at), "", 1)
        weights = train(tensors(), vocabulary=[], settings=settings, seed=1, device="cpu", progress=resumed)
        assert len(resumed.history) == 6
        assert weights.keys() == whole.keys()
        assert all(torch.equal(weights[name], whole[name]) for name in whole)


def test_training_moves_crystals_into_the_window():
    # Rocksalt cells of 4.5 to 4.8 angstrom: like atoms 3.2 to 3.4 apart, all outside the rule.
    far = tensors()
    far["tensor"] *= 4.5 / 3.7
    settings = small("default", epochs=40, generator_rate=1e-3)
    weights = train(far, vocabulary=[], settings=settings, seed=1, device="cpu", progress=Progress(None, "", 1))
    cells = draw(weights, [], settings, 20, 7, "cpu").cells
    untrained = small("default", epochs=0)
    weights = train(far, vocabulary=[], settings=untrained, seed=1, device="cpu", progress=Progress(None, "", 1))
    assert not any(obeys(cell, H) for cell in draw(weights, [], untrained, 20, 7, "cpu").cells)
    assert sum(obeys(cell, H) for cell in cells) >= 8


def test_dense_networks_take_one_pair_only():
    several = tensors()
    several["elements"][0] = (H, 12, 22)
    with pytest.raises(ValueError, match="2 pairs, and the dense networks know no elements"):
        train(several, vocabulary=[], settings=small("paper"), seed=1, device="cpu", progress=Progress(None, "", 1))
    weights = train(
        several, vocabulary=[], settings=small("default"), seed=1, device="cpu", progress=Progress(None, "", 1)
    )
    assert {12, 22} & {int(z) for cell in draw(weights, [], small("default"), 8, 1, "cpu").cells for z in cell.elements}


def test_a_domain_without_crystals_or_without_two_metal_atoms_is_refused():
    single = tensors()
    single["domain"][:] = 0
    with pytest.raises(ValueError, match="domain B-X: no crystal is left"):
        train(single, vocabulary=[], settings=small("paper"), seed=1, device="cpu", progress=Progress(None, "", 1))
    lonely = tensors()
    lonely["occupied"][:, 1:, 1:] = 0
    with pytest.raises(ValueError, match="two atoms of its metal"):
        train(lonely, vocabulary=[], settings=small("default"), seed=1, device="cpu", progress=Progress(None, "", 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "cyclegan"}, "'cyclegan'; choose from crystalgan, discogan, gan"),
        ({"method": "gan", "networks": "graph"}, "write 'dense'"),
        ({"d1_angstrom": 3.5}, "d1_angstrom 3.5 must lie between 0 and d2_angstrom 3.0"),
    ],
)
def test_bad_settings_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        small("default", **changes)


def test_step_networks_are_those_of_the_settings():
    assert isinstance(Exchange(graph).generators[0], graph.Generator)
    assert isinstance(Exchange(dense).critics[1], dense.Critic)
