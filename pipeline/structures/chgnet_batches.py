"""CHGNet's energy, forces and stress of many cells in one forward and one backward pass.

The weights are those that the package ships (CHGNet 0.3.0); Deng et al., Nat. Mach. Intell. 5, 1031 (2023),
doi:10.1038/s42256-023-00716-3. What is computed equals ``CHGNet.predict_structure`` but for float32 rounding, in a
quarter of the time on a CPU core, since relaxation asks for no second derivatives:

- forces and stress come from one gradient, with respect to the bond vectors: strain scales all of them, and an atom's
  force is the sum over its bonds;
- a linear layer over concatenated features of atoms and bonds is a sum of linear layers, each applied before the
  features are copied to the edges or angles that share them;
- both directions of a bond share its features, and the last update of the angles, which nobody reads, is left out.

Legend of suffixes: A atoms, B bonds (undirected), S bonds short enough to form angles (the first ones of B), D directed
bonds (B forward, then B backward), T angles (ordered pairs of directed short bonds at one atom), C cells, H features.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from pipeline.cells import Cell
from pipeline.structures.potentials import Evaluation, IsolatedAtom

# Elements of CHGNet's training set: up to plutonium, without polonium to radium.
KNOWN_ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))
# Larger batches were no faster on a CPU core; on a GPU the larger one holds about 10 GB.
_ATOMS_A_BATCH = {"cpu": 96, "cuda": 4096}


class BatchedCHGNet:
    """CHGNet as a potential of :mod:`pipeline.structures.potentials`.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    known_elements = KNOWN_ELEMENTS

    def __init__(self, device: str):
        from chgnet.model.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):
            model = CHGNet.load(use_device=device, verbose=False).eval().requires_grad_(False)
        self._device = device
        self._model = model
        self.atoms_a_batch = _ATOMS_A_BATCH[device]
        self._cutoff = float(model.graph_converter.atom_graph_cutoff)
        self._angle_cutoff = float(model.graph_converter.bond_graph_cutoff)
        self._reference_ev = model.composition_model.fc.weight[0].double().cpu().numpy()  # by atomic number - 1
        self._atom_layers = [_Gated(layer.twoBody_atom, 3, layer.mlp_out) for layer in model.atom_conv_layers]
        self._bond_layers = [_Gated(layer.twoBody_bond, 4, layer.mlp_out) for layer in model.bond_conv_layers]
        self._angle_layers = [_Gated(layer.twoBody_bond, 4) for layer in model.angle_layers[:-1]]

    def evaluate(self, cells: Sequence[Cell]) -> list[Evaluation]:
        """Energy, forces and stress of each cell; a batch that is too large for the GPU's memory is halved.

        Raises:
            IsolatedAtom: An atom of some cell has no neighbour.
        """
        try:
            return self._evaluate_at_once(cells)
        except torch.OutOfMemoryError:
            if len(cells) == 1:
                raise
        self.atoms_a_batch = max(1, self.atoms_a_batch // 2)
        torch.cuda.empty_cache()
        half = len(cells) // 2
        return [*self.evaluate(cells[:half]), *self.evaluate(cells[half:])]

    def _evaluate_at_once(self, cells: Sequence[Cell]) -> list[Evaluation]:
        graph = bond_graph(cells, self._cutoff, self._angle_cutoff)
        n_atoms = sum(len(cell.elements) for cell in cells)
        if not (np.bincount(graph.start_B, minlength=n_atoms) + np.bincount(graph.end_B, minlength=n_atoms)).all():
            raise IsolatedAtom(f"no neighbour within {self._cutoff} angstrom")
        elements_A = np.concatenate([cell.elements for cell in cells]).astype(np.int64) - 1
        vectors_B3 = torch.as_tensor(graph.vectors_B3.astype(np.float32), device=self._device).requires_grad_()
        energies_A = self._site_energies(graph, self._on_device(elements_A), vectors_B3)
        (gradient_B3,) = torch.autograd.grad(energies_A.sum(), vectors_B3)
        gradient_B3 = gradient_B3.double().cpu().numpy()
        energies_A = energies_A.detach().double().cpu().numpy() + self._reference_ev[elements_A]
        return _by_cell(cells, graph, energies_A, gradient_B3)

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self._device)

    def _site_energies(self, graph: "BondGraph", elements_A: torch.Tensor, vectors_B3: torch.Tensor) -> torch.Tensor:
        model, n_short = self._model, graph.n_short
        start_B, end_B = self._on_device(graph.start_B), self._on_device(graph.end_B)
        start_D, end_D = torch.cat([start_B, end_B]), torch.cat([end_B, start_B])
        lengths_B = torch.norm(vectors_B3, dim=1)
        bases = model.bond_basis_expansion
        basis_B = bases.rbf_expansion_ag(lengths_B)
        weights_BH = model.bond_weights_ag(basis_B)
        bonds_BH = model.bond_embedding(basis_B)
        atoms_AH = model.atom_embedding(elements_A)
        has_angles = len(graph.center_T) > 0
        if has_angles:
            center_T, first_T, second_T = (
                self._on_device(array) for array in (graph.center_T, graph.first_T, graph.second_T)
            )
            unit_S3 = vectors_B3[:n_short] / lengths_B[:n_short, None]
            unit_D3 = torch.cat([unit_S3, -unit_S3])
            angles_TH = model.angle_embedding(model.angle_basis_expansion(unit_D3[first_T], unit_D3[second_T]))
            first_T, second_T = first_T % n_short, second_T % n_short  # either direction has the bond's features
            weights_SH = model.bond_weights_bg(bases.rbf_expansion_bg(lengths_B[:n_short]))
            weights_TH = weights_SH.index_select(0, first_T) * weights_SH.index_select(0, second_T)
        for depth, layer in enumerate(self._atom_layers):
            of_start, of_bond, of_end = layer.parts
            hidden_DH = (atoms_AH @ of_start).index_select(0, start_D) + (atoms_AH @ of_end).index_select(0, end_D)
            messages_2BH = layer(hidden_DH.view(2, len(start_B), -1) + (bonds_BH @ of_bond + layer.bias))
            messages_DH = (messages_2BH * weights_BH).flatten(0, 1)
            atoms_AH = atoms_AH + torch.zeros_like(atoms_AH).index_add(0, start_D, messages_DH) @ layer.out
            if not has_angles or depth == len(self._bond_layers):
                continue
            layer = self._bond_layers[depth]
            short_SH = bonds_BH[:n_short]
            hidden_TH = _of_angles(layer, short_SH, angles_TH, atoms_AH, center_T, first_T, second_T)
            messages_TH = layer(hidden_TH) * weights_TH
            short_SH = short_SH + torch.zeros_like(short_SH).index_add(0, first_T, messages_TH) @ layer.out
            bonds_BH = torch.cat([short_SH, bonds_BH[n_short:]])
            if depth < len(self._angle_layers):
                layer = self._angle_layers[depth]
                angles_TH = angles_TH + layer(
                    _of_angles(layer, short_SH, angles_TH, atoms_AH, center_T, first_T, second_T)
                )
        return model.mlp(model.readout_norm(atoms_AH))[:, 0]


class _Gated:
    """CHGNet's ``GatedMLP``, its two branches in one and its first layer split by what it reads.

    Attributes:
        parts: Weights of the first layer for each of its inputs, of shape (H, 2 H): core, then gate.
        bias: Of the first layer.
        out: Weights of the layer that follows the gate and the sum over neighbours.
    """

    def __init__(self, gated: torch.nn.Module, n_inputs: int, out: torch.nn.Module | None = None):
        core, gate = (
            [part for part in branch.layers if isinstance(part, torch.nn.Linear)]
            for branch in (gated.mlp_core, gated.mlp_gate)
        )
        self.parts = torch.cat([core[0].weight, gate[0].weight]).T.contiguous().chunk(n_inputs)
        self.bias = torch.cat([core[0].bias, gate[0].bias])
        self.out = None if out is None else out.layers[-1].weight.T.contiguous()
        self._second = [(layers[1].weight.T.contiguous(), layers[1].bias) for layers in (core, gate) if layers[1:]]
        self._norms = gated.bn1, gated.bn2

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """What comes through the gate, of shape (..., H), for the first layer's output of shape (..., 2 H)."""
        if self._second:
            hidden = functional.silu(hidden)
        branches = hidden.chunk(2, dim=-1)
        if self._second:
            branches = [part @ weight + bias for part, (weight, bias) in zip(branches, self._second, strict=True)]
        core, gate = (norm(part) for norm, part in zip(self._norms, branches, strict=True))
        return functional.silu(core) * torch.sigmoid(gate)


def _of_angles(layer: _Gated, short_SH, angles_TH, atoms_AH, center_T, first_T, second_T) -> torch.Tensor:
    of_first, of_second, of_angle, of_center = layer.parts
    return (
        (short_SH @ of_first).index_select(0, first_T)
        + (short_SH @ of_second).index_select(0, second_T)
        + (atoms_AH @ of_center + layer.bias).index_select(0, center_T)
        + angles_TH @ of_angle
    )


class BondGraph(NamedTuple):
    """Bonds and angles of a batch of cells; atoms are counted through all of them.

    Attributes:
        start_B: Atom at which a bond starts.
        end_B: Atom of which it meets an image.
        cell_B: Which cell it belongs to.
        vectors_B3: float64, from the end to the start, angstrom.
        n_short: Bonds that form angles; these come first.
        center_T: Atom at which two short bonds meet.
        first_T: One of the two: a bond, or ``n_short`` plus a bond where it is met at its end.
        second_T: The other. Every pair comes in both orders.
    """

    start_B: np.ndarray
    end_B: np.ndarray
    cell_B: np.ndarray
    vectors_B3: np.ndarray
    n_short: int
    center_T: np.ndarray
    first_T: np.ndarray
    second_T: np.ndarray


def bond_graph(cells: Sequence[Cell], cutoff_angstrom: float, angle_cutoff_angstrom: float) -> BondGraph:
    """All bonds up to a length, and all angles between those up to another."""
    start, end, owner, vectors = [], [], [], []
    n_atoms = 0
    for place, cell in enumerate(cells):
        start_b, end_b, vectors_b = _bonds(cell, cutoff_angstrom)
        start.append(start_b + n_atoms)
        end.append(end_b + n_atoms)
        vectors.append(vectors_b)
        owner.append(np.full(len(start_b), place))
        n_atoms += len(cell.elements)
    start_B, end_B, cell_B, vectors_B3 = map(np.concatenate, (start, end, owner, vectors))
    is_long_B = np.linalg.norm(vectors_B3, axis=1) >= angle_cutoff_angstrom
    order = np.argsort(is_long_B, kind="stable")
    start_B, end_B, cell_B, vectors_B3 = start_B[order], end_B[order], cell_B[order], vectors_B3[order]
    n_short = int((~is_long_B).sum())
    # Directed short bonds lie in runs that share their atom; each meets all of its run but itself.
    at = np.concatenate([start_B[:n_short], end_B[:n_short]])
    by_atom = np.argsort(at, kind="stable")
    run_length = np.bincount(at, minlength=n_atoms)
    run_start = np.cumsum(run_length) - run_length
    n_met = run_length[at[by_atom]]
    first = np.repeat(np.arange(2 * n_short), n_met)
    second = np.arange(len(first)) - np.repeat(np.cumsum(n_met) - n_met - run_start[at[by_atom]], n_met)
    other = first != second
    first_T, second_T = by_atom[first[other]], by_atom[second[other]]
    return BondGraph(start_B, end_B, cell_B, vectors_B3, n_short, at[first_T], first_T, second_T)


_PERIODIC = np.ones(3, dtype=np.int64)


def _bonds(cell: Cell, cutoff_angstrom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and vector of each undirected bond.

    Raises:
        IsolatedAtom: The cell is so empty that the search for neighbours would take the machine's memory.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    if cell.volume > len(cell.elements) * (2 * cutoff_angstrom) ** 3:
        raise IsolatedAtom(f"{cell.volume:.0f} cubic angstrom hold {len(cell.elements)} atoms")
    lattice = np.ascontiguousarray(cell.lattice)
    positions = np.ascontiguousarray(cell.fractional @ lattice)
    start, end, image, _ = find_points_in_spheres(
        positions, positions, r=cutoff_angstrom, pbc=_PERIODIC, lattice=lattice, tol=1e-8
    )
    x, y, z = image.T
    # Of the two directions one is kept; a bond to an atom's own image has an image above 0 in the first place not 0.
    forward = (start < end) | ((start == end) & ((x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))))
    start, end, image = start[forward], end[forward], image[forward]
    return start, end, positions[start] - positions[end] - image @ lattice


def _by_cell(
    cells: Sequence[Cell], graph: BondGraph, energies_A: np.ndarray, gradient_B3: np.ndarray
) -> list[Evaluation]:
    n_cells, n_atoms = len(cells), len(energies_A)
    forces_A3, stress_C33 = np.empty((n_atoms, 3)), np.empty((n_cells, 3, 3))
    volumes_C = np.array([cell.volume for cell in cells])
    for axis in range(3):
        along = gradient_B3[:, axis]
        forces_A3[:, axis] = np.bincount(graph.end_B, along, n_atoms) - np.bincount(graph.start_B, along, n_atoms)
        for other in range(3):
            virial_C = np.bincount(graph.cell_B, graph.vectors_B3[:, other] * along, n_cells)
            stress_C33[:, other, axis] = virial_C / volumes_C
    ends = np.cumsum([len(cell.elements) for cell in cells])[:-1]
    energies_C = [float(part.sum()) for part in np.split(energies_A, ends)]
    return [Evaluation(*of_cell) for of_cell in zip(energies_C, np.split(forces_A3, ends), stress_C33, strict=True)]
