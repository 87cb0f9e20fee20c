"""Which of the known crystals a formula most probably takes after.

A *way* puts the elements of a formula on the sites of a template, in one of the orders that its counts allow. Ways that
give the same crystal by space group, number of sites and shortest distances are one *class*: templates of which many
resemble the formula speak for it together. Gradient-boosted trees, trained on stable crystals of the Materials Project
whose own formulas were hidden (``benchmarks/structures/ranking.py``, ``resources/models/template_ranking``), say how
probable each class is.

Legend of suffixes: T templates of one anonymous formula, E elements of a formula, D coordinates of an element, P orders
of the elements, K ways, C classes, F features.
"""

import itertools
import warnings
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from pipeline.structures.volume import covalent_radii

ELECTRONEGATIVITY, COVALENT, IONIC, CHARGE, GROUP, ROW, MENDELEEV = range(7)
# What counts as one unit of unlikeness when ways are preselected: our assumption, the trees weigh them anew.
_UNITS = {ELECTRONEGATIVITY: 0.5, CHARGE: 2.0, GROUP: 2.0, ROW: 3.3, MENDELEEV: 20.0}
_SIZE_UNIT = 0.25  # natural logarithm of a radius
_OTHER_ELEMENT = 0.5
_MOST_GROUPS = 8
_NOT_GROUND_STATE = 0.3
_HULL_UNIT_EV_PER_ATOM = 0.33
_HULL_UNKNOWN, _HULL_MOST = 0.05, 0.3  # eV/atom
MAX_WAYS = 200
_SAME_CONTACTS = 0.1  # natural logarithm of a distance
_NEAR, _FAR = 0.2, 0.6  # unlikeness over which a way's vote falls to 1/e

_DIFFERENCES = ("electronegativity", "size", "charge", "group", "row", "mendeleev", "other_element")
_OVER_ELEMENTS = ("mean", "largest", "by_atoms", "of_cation", "of_anion")
FEATURES = (
    *(f"{difference}_{over}" for difference in _DIFFERENCES for over in _OVER_ELEMENTS),
    "radius_ratio",
    "spread_of_radii_ratio",
    "unlikeness",
    "unlikeness_with_stability",
    "behind_the_first",
    "first_way",
    "template_energy_above_hull",
    "template_is_ground_state",
    "template_sites",
    "space_group",
    "share_of_templates",
    "share_of_ground_states",
    "votes_near",
    "votes_far",
    "share_of_ways",
    "place_by_votes",
    "lowest_energy_above_hull",
    "share_ground_states_of_ways",
    "n_elements",
    "atoms_per_formula",
    "first_unlikeness",
    "log_n_templates",
    "n_classes",
    "electronegativity_spread",
)


@cache
def _element(z: int, state: int | None) -> tuple[float, ...]:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no electronegativity for He, Ne and Ar, no Mendeleev number beyond Lr
        element = Element.from_Z(z)
        electronegativity, mendeleev = element.X, element.mendeleev_no or z
    return (
        float(np.nan_to_num(electronegativity)),
        float(np.log(covalent_radii()[z])),
        float(np.log(element.ionic_radii.get(state, np.nan))) if state is not None else np.nan,
        np.nan if state is None else float(state),
        float(element.group),
        float(element.row),
        float(mendeleev),
    )


def coordinates(elements: list[int], states: list[int] | None) -> np.ndarray:
    """Coordinates of elements, float64 of shape (E, D), NaN for what is not known.

    Pauling electronegativity; natural logarithms of the covalent radius and of the Shannon radius of the ion (Acta
    Cryst. A32, 751 (1976), doi:10.1107/S0567739476001551; pymatgen's average over coordinations); oxidation state;
    group, row and Mendeleev number (Villars et al., doi:10.1016/j.jallcom.2003.06.003) of the periodic table.

    Args:
        elements: Atomic numbers.
        states: Oxidation states, None where unknown.
    """
    states = [None] * len(elements) if states is None else states
    return np.array([_element(int(z), state) for z, state in zip(elements, states, strict=True)])


@dataclass(frozen=True, eq=False)
class Group:
    """The templates of one anonymous formula.

    Attributes:
        counts: The anonymous formula, ascending.
        positions_T: Their rows in the library.
        elements_TE: Atomic numbers.
        coordinates_TED: See :func:`coordinates`.
        log_contacts_TEE: Natural logarithm of the shortest distances between elements.
        space_groups_T, n_sites_T: Of the primitive cells.
        hull_T: Energy above the hull in eV/atom, NaN where unknown.
        ground_T: Whether the template is the lowest of its formula in the library.
        formulas_T: Number of its formula.
    """

    counts: tuple[int, ...]
    positions_T: np.ndarray
    elements_TE: np.ndarray
    coordinates_TED: np.ndarray
    log_contacts_TEE: np.ndarray
    space_groups_T: np.ndarray
    n_sites_T: np.ndarray
    hull_T: np.ndarray
    ground_T: np.ndarray
    formulas_T: np.ndarray

    def take(self, chosen: np.ndarray) -> "Group":
        """Those templates only."""
        fields = {name: value[chosen] for name, value in vars(self).items() if name != "counts"}
        return Group(self.counts, **fields)


class Classes(NamedTuple):
    """The classes of a formula, by their most alike way.

    Attributes:
        template_C: Place of that way's template in the group.
        order_CE: Element of the formula, by ascending count, on each of the template's.
        features_CF: See ``FEATURES``.
    """

    template_C: np.ndarray
    order_CE: np.ndarray
    features_CF: np.ndarray


def classes(group: Group, elements: np.ndarray, states: list[int] | None) -> Classes:
    """The classes of crystals that a formula may take after, the most alike first.

    Args:
        group: Templates of its anonymous formula.
        elements: Atomic numbers, in the order of ``group.counts``.
        states: Oxidation states, None where unknown.
    """
    formula_ED = coordinates(elements, states)
    difference_TEED = np.abs(group.coordinates_TED[:, :, None] - formula_ED[None, None])
    size_TEE = np.where(
        np.isnan(difference_TEED[..., IONIC]), difference_TEED[..., COVALENT], difference_TEED[..., IONIC]
    )
    difference_TEED[..., CHARGE] = np.nan_to_num(difference_TEED[..., CHARGE])
    difference_TEED[..., GROUP] = np.minimum(difference_TEED[..., GROUP], _MOST_GROUPS)
    other_TEE = group.elements_TE[:, :, None] != np.asarray(elements)[None, None]
    squares = sum((difference_TEED[..., which] / unit) ** 2 for which, unit in _UNITS.items())
    unlike_TEE = np.sqrt(squares + (size_TEE / _SIZE_UNIT) ** 2) + _OTHER_ELEMENT * other_TEE
    orders_PE = orders(group.counts)
    places_E = np.arange(len(elements))
    unlike_TP = sum(unlike_TEE[:, place, orders_PE[:, place]] for place in places_E) / len(elements)
    hull_T = np.nan_to_num(group.hull_T, nan=_HULL_UNKNOWN)
    unstable_T = np.minimum(hull_T, _HULL_MOST) / _HULL_UNIT_EV_PER_ATOM + _NOT_GROUND_STATE * ~group.ground_T
    both_TP = unlike_TP + unstable_T[:, None]
    chosen = np.argsort(np.round(both_TP, 9), axis=None, kind="stable")[:MAX_WAYS]
    template_K, p_K = np.unravel_index(chosen, both_TP.shape)
    order_KE = orders_PE[p_K]
    class_K, first_C = _classes(group, template_K, order_KE)

    n, n_classes = len(chosen), len(first_C)
    both_K, unlike_K = both_TP[template_K, p_K], unlike_TP[template_K, p_K]
    ground_K, lowest_C = group.ground_T[template_K], np.full(n_classes, np.inf)
    np.minimum.at(lowest_C, class_K, hull_T[template_K])
    ways_C = np.bincount(class_K, minlength=n_classes)
    near_C = np.bincount(class_K, np.exp((both_K[0] - both_K) / _NEAR), n_classes)
    far_C = np.bincount(class_K, np.exp((both_K[0] - both_K) / _FAR), n_classes)
    place_C = np.empty(n_classes)
    place_C[np.argsort(-near_C, kind="stable")] = np.arange(n_classes)

    template_C, order_CE = template_K[first_C], order_KE[first_C]
    slots = (template_C[:, None], places_E[None], order_CE)
    by_element_CED = np.stack(
        [
            difference_TEED[..., ELECTRONEGATIVITY][slots],
            size_TEE[slots],
            *(difference_TEED[..., which][slots] for which in (CHARGE, GROUP, ROW, MENDELEEV)),
            other_TEE[slots].astype(float),
        ],
        axis=-1,
    )
    weights_E = np.array(group.counts) / sum(group.counts)
    from_cation = np.argsort(formula_ED[order_CE, ELECTRONEGATIVITY], axis=1, kind="stable")
    rows_C = np.arange(n_classes)
    over = (
        by_element_CED.mean(axis=1),
        by_element_CED.max(axis=1),
        np.einsum("ced,e->cd", by_element_CED, weights_E),
        by_element_CED[rows_C, from_cation[:, 0]],
        by_element_CED[rows_C, from_cation[:, -1]],
    )
    over_elements = np.stack(over, axis=-1).reshape(n_classes, -1)
    radii_old = np.exp(group.coordinates_TED[template_C][..., COVALENT])
    radii_new = np.exp(formula_ED[order_CE, COVALENT])
    spread = radii_old.max(axis=1) / radii_old.min(axis=1) / (radii_new.max(axis=1) / radii_new.min(axis=1))
    like_C = (group.space_groups_T[None] == group.space_groups_T[template_C][:, None]) & (
        group.n_sites_T[None] == group.n_sites_T[template_C][:, None]
    )
    electronegativities = formula_ED[:, ELECTRONEGATIVITY]
    features_CF = np.column_stack(
        [
            over_elements,
            (radii_old @ weights_E) / (radii_new @ weights_E),
            spread,
            unlike_K[first_C],
            both_K[first_C],
            both_K[first_C] - both_K[0],
            first_C,
            hull_T[template_C],
            group.ground_T[template_C],
            group.n_sites_T[template_C],
            group.space_groups_T[template_C],
            like_C.mean(axis=1),
            (like_C & group.ground_T[None]).sum(axis=1) / max(1, group.ground_T.sum()),
            near_C / near_C.sum(),
            far_C / far_C.sum(),
            ways_C / n,
            place_C,
            lowest_C,
            np.bincount(class_K, ground_K, n_classes) / ways_C,
            np.full(n_classes, len(elements)),
            np.full(n_classes, sum(group.counts)),
            np.full(n_classes, both_K[0]),
            np.full(n_classes, np.log(len(group.positions_T))),
            np.full(n_classes, n_classes),
            np.full(n_classes, electronegativities.max() - electronegativities.min()),
        ]
    )
    return Classes(template_C, order_CE, features_CF)


def _classes(group: Group, template_K: np.ndarray, order_KE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the class of each way, and the first way of each class."""
    by_element_KE = np.argsort(order_KE, axis=1)
    contacts_KEE = group.log_contacts_TEE[
        template_K[:, None, None], by_element_KE[:, :, None], by_element_KE[:, None, :]
    ]
    kinds = list(zip(group.space_groups_T[template_K], group.n_sites_T[template_K], strict=True))
    of_kind: dict[tuple, list[int]] = {}
    class_K, first = np.empty(len(template_K), dtype=np.int64), []
    for way, kind in enumerate(kinds):
        known = of_kind.setdefault(kind, [])
        apart = np.abs(contacts_KEE[[first[c] for c in known]] - contacts_KEE[way]).max(axis=(1, 2), initial=0.0)
        if len(known) and apart.min() < _SAME_CONTACTS:
            class_K[way] = known[int(apart.argmin())]
        else:
            class_K[way] = len(first)
            known.append(len(first))
            first.append(way)
    return class_K, np.array(first)


@cache
def orders(counts: tuple[int, ...]) -> np.ndarray:
    """Orders of ``range(len(counts))`` that exchange only places of equal count, int64 of shape (P, E)."""
    groups = [[place for place, value in enumerate(counts) if value == count] for count in sorted(set(counts))]
    return np.array(
        [sum(order, ()) for order in itertools.product(*(itertools.permutations(group) for group in groups))]
    )
