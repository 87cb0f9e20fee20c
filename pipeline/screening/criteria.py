"""What the user asks of a candidate: the cutoffs that it must meet, and what makes one better than another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.screening.elements import RADIOACTIVE, TOXIC, contains

SCORES = ("formation_energy_ev_per_atom", "decomposition_energy_ev_per_atom", "band_gap_ev", "probability_nonmetal")
"""What every candidate must have, or it falls as ``unscored``; and likeness, where the campaign has a model of it."""

NO_LIKENESS = "no likeness"
"""How ``unscored_because`` says that a campaign's model of likeness has no answer."""

LIMITS = (
    "max_hhi_production",
    "max_hhi_reserve",
    "max_formation_energy_ev_per_atom",
    "max_formation_energy_uncertainty_ev_per_atom",
    "max_decomposition_energy_ev_per_atom",
    "max_decomposition_energy_uncertainty_ev_per_atom",
    "min_probability_near_hull",
    "min_likeness",
    "max_distance_from_training",
    "min_band_gap_ev",
    "max_band_gap_ev",
)
"""Cutoffs on numbers; what follows ``min_`` or ``max_`` is the column."""


@dataclass(frozen=True)
class Weights:
    """Exponents of the terms in the usefulness; 0 leaves a term out.

    Args:
        near_hull: Of the probability to lie near the hull.
        likeness: Of being like a made compound.
        gap: Of the probability that the gap lies in the window.
        novelty: Of the distance to the nearest known compound.
        diversity: Of 1/k for the k-th best of its chemical system.

    Raises:
        ValueError: One is below 0, or all are 0.
    """

    near_hull: float = 1.0
    likeness: float = 1.0
    gap: float = 1.0
    novelty: float = 0.0
    diversity: float = 1.0

    def __post_init__(self):
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in given.items():
            if value < 0:
                raise ValueError(f"screening.select.weights.{name}: {value} is below 0; give 0 to leave the term out")
        if not any(given.values()):
            raise ValueError("screening.select.weights: all are 0, which ranks by name; give one of them a weight")


@dataclass(frozen=True)
class Criteria:
    """The section ``screening.select`` of the config; None turns a limit off.

    Args:
        require_novel: Reject formulas of the database.
        allowed_elements: Symbols; None allows all.
        excluded_elements: Symbols.
        exclude_radioactive: Reject elements without a stable isotope, see ``RADIOACTIVE``.
        exclude_toxic: Reject those of ``TOXIC``.
        min_elements, max_elements: Different elements in the formula.
        max_atoms: Most atoms of the reduced formula.
        max_hhi_production, max_hhi_reserve: How concentrated the supply of the elements may be, see
            :func:`pipeline.screening.elements.herfindahl_hirschman`; a formula without an index falls.
        max_formation_energy_ev_per_atom: Highest predicted formation energy.
        max_formation_energy_uncertainty_ev_per_atom: Widest half of its 90 % interval.
        max_decomposition_energy_ev_per_atom: Highest predicted distance to the hull.
        max_decomposition_energy_uncertainty_ev_per_atom: Widest half of its 90 % interval.
        min_probability_near_hull: Of lying at most ``near_hull_ev_per_atom`` above the hull.
        min_likeness: Least likeness to the database's compounds.
        max_distance_from_training: Farthest from what the models learnt from.
        min_band_gap_ev, max_band_gap_ev: Bounds of the predicted gap, and of the term ``gap``.
        near_hull_ev_per_atom: Decomposition energy up to which a formula counts as near the hull.
        weights: See :class:`Weights`, or a mapping of its fields.
        max_per_chemical_system: Most ranked formulas of one set of elements, best first.
        n_selected: Number selected.

    Raises:
        ValueError: A bound is out of its range, two bounds are crossed, or a symbol is no element.
    """

    require_novel: bool = False
    allowed_elements: Sequence[str] | None = None
    excluded_elements: Sequence[str] = ()
    exclude_radioactive: bool = False
    exclude_toxic: bool = False
    min_elements: int | None = None
    max_elements: int | None = None
    max_atoms: int | None = None
    max_hhi_production: float | None = None
    max_hhi_reserve: float | None = None
    max_formation_energy_ev_per_atom: float | None = None
    max_formation_energy_uncertainty_ev_per_atom: float | None = None
    max_decomposition_energy_ev_per_atom: float | None = None
    max_decomposition_energy_uncertainty_ev_per_atom: float | None = None
    min_probability_near_hull: float | None = None
    min_likeness: float | None = None
    max_distance_from_training: float | None = None
    min_band_gap_ev: float | None = None
    max_band_gap_ev: float | None = None
    near_hull_ev_per_atom: float = 0.05
    weights: Weights | Mapping[str, float] = field(default_factory=Weights)
    max_per_chemical_system: int | None = None
    n_selected: int = 1000

    def __post_init__(self):
        if isinstance(self.weights, Mapping):
            object.__setattr__(self, "weights", Weights(**self.weights))
        for name in ("allowed_elements", "excluded_elements"):
            unknown = [symbol for symbol in getattr(self, name) or () if symbol not in ATOMIC_NUMBERS]
            if unknown:
                raise ValueError(f"screening.select.{name}: '{unknown[0]}' is no element; give symbols")
        if self.allowed_elements is not None and not self.allowed_elements:
            raise ValueError("screening.select.allowed_elements: [] allows none; give symbols, or null for all")
        for what in ("band_gap_ev", "elements"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"screening.select.min_{what}: {low} is above max_{what} {high}; swap them")
        for name in ("n_selected", "max_per_chemical_system", "max_atoms", "max_elements"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"screening.select.{name}: {value} leaves no candidate; give 1 or more")
        for name in ("min_probability_near_hull", "min_likeness"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"screening.select.{name}: {value} is no probability; give 0 to 1")

    @property
    def gap_window(self) -> str:
        """The window of the gap in words."""
        low, high = self.min_band_gap_ev or None, self.max_band_gap_ev
        if low is None:
            return "any gap" if high is None else f"a gap of at most {high:g} eV"
        return f"a gap of at least {low:g} eV" if high is None else f"a gap of {low:g} to {high:g} eV"


def failing(candidates: pa.Table, criteria: Criteria) -> dict[str, np.ndarray]:
    """Which rows fall by which cutoff, in the order in which cutoffs reject; those that are off are left out.

    Args:
        candidates: Columns of ``PREDICTED`` with those of ``TERM_COLUMNS`` and ``SUPPLY_COLUMNS``, N rows.
        criteria: What is asked.

    Returns:
        By reason, bool of shape (N,). Apart from ``known`` and ``unscored`` a reason is the key of the config.
    """
    compositions = Compositions.from_table(candidates)
    fails = {}
    if criteria.require_novel:
        fails["known"] = candidates["is_known"].to_numpy()
    forbidden = {
        "allowed_elements": set(SYMBOLS).difference(criteria.allowed_elements or SYMBOLS),
        "excluded_elements": criteria.excluded_elements,
        "exclude_radioactive": RADIOACTIVE if criteria.exclude_radioactive else (),
        "exclude_toxic": TOXIC if criteria.exclude_toxic else (),
    }
    fails |= {name: contains(compositions, symbols) for name, symbols in forbidden.items() if symbols}
    sizes = {
        "min_elements": compositions.n_elements,
        "max_elements": compositions.n_elements,
        "max_atoms": compositions.n_atoms,
    }
    for name, values in sizes.items():
        if getattr(criteria, name) is not None:
            fails[name] = _beyond(name, values, getattr(criteria, name))
    unlike = pc.fill_null(pc.match_substring(candidates["unscored_because"], NO_LIKENESS), False).to_numpy()
    fails["unscored"] = np.isnan(sum(candidates[name].to_numpy() for name in SCORES)) | unlike
    for name in LIMITS:
        if getattr(criteria, name) is not None:
            values = candidates[name.partition("_")[2]].to_numpy()
            fails[name] = _beyond(name, values, getattr(criteria, name))
    return fails


def first_failing(candidates: pa.Table, criteria: Criteria) -> tuple[np.ndarray, list[str]]:
    """The first cutoff that each row falls by.

    Returns:
        Positions in the list of reasons, int8 of shape (N,), -1 for none; and that list.
    """
    fails = failing(candidates, criteria)
    place = np.full(len(candidates), -1, dtype=np.int8)
    for number, failed in enumerate(fails.values()):
        place[failed & (place < 0)] = number
    return place, list(fails)


def _beyond(name: str, values: np.ndarray, limit: float) -> np.ndarray:
    """Which values a limit rejects, and those that are not there (NaN) with them."""
    return ~(values >= limit if name.startswith("min_") else values <= limit)
