"""A card of each of the best candidates, which opens on a click, and what relaxation did to symmetries."""

import re
from collections.abc import Sequence
from html import escape

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import cells
from pipeline.composition import SYMBOLS
from pipeline.hull import Hull
from pipeline.report import crystals, funnel, page, phases
from pipeline.report.candidates import ORIGINS
from pipeline.report.page import Cell, number, rounded, text

SHOWN = 12
"""Candidates with a card."""

_UNIT = {"eV/atom": "ev_per_atom", "eV": "ev"}


def cards(structures: pa.Table, references: pa.Table) -> str:
    """The cards of the first exported structures.

    Args:
        structures: Rows of ``STRUCTURES``, the best first.
        references: Rows of ``REFERENCES``.
    """
    chosen = structures.filter(pc.is_null(structures["rejected_by"])).slice(0, SHOWN)
    if not len(chosen):
        return ""
    hull = Hull.from_table(references)
    rows = cells.plain_rows(chosen)
    made = [_card(row, cell, hull) for row, cell in zip(rows, cells.from_table(chosen), strict=True)]
    return page.paragraph(
        f"The first {len(made)} more closely; a click opens a card. Drag a cell to turn it, turn the wheel to come "
        "nearer; it is the conventional cell, atoms on its faces repeated, with balls of 0.45 covalent radii. The "
        "powder pattern is simulated for copper K-alpha."
    ) + "".join(made)


def _card(row: dict, cell: cells.Cell, hull: Hull) -> str:
    distance = row["energy_above_hull_ev_per_atom"]
    group = escape(row["space_group_symbol"] or "no space group")
    said = "hull distance unknown" if distance is None else f"{rounded(distance, '+.3f')} eV/atom to the hull"
    summary = f"<b>{row['rank']}</b> &nbsp; {page.formula(row['formula'])} &nbsp; {group} &nbsp; <small>{said}</small>"
    drawn = [
        page.figure(crystals.view("Cell", cell)),
        _powder(cell),
        _phases(row, hull),
    ]
    return page.card(summary, page.beside(*drawn) + page.facts(_facts(row)))


def _powder(cell: cells.Cell) -> str:
    title = "Powder pattern"
    try:
        return page.figure(crystals.powder_pattern(title, cell))
    except ValueError as error:  # no scattering factors of an element
        return page.block(title, page.missing(str(error)))


def _phases(row: dict, hull: Hull) -> str:
    if row["energy_above_hull_ev_per_atom"] is None:
        sentence = f"Its place among known phases is unknown: {_why(row)}."
        return page.block(phases.TITLE, page.missing(sentence))
    energies = (row["energy_ev_per_atom"], row["energy_above_hull_ev_per_atom"])
    return phases.place(hull, phases.Placed(row["formula"], tuple(row["elements"]), tuple(row["counts"]), *energies))


def _why(row: dict) -> str:
    """Why there is no hull distance."""
    if row["energy_ev_per_atom"] is None:
        return "it was not relaxed, so it has no energy"
    return row["hull_remark"] or "no distances were asked for"


def _facts(row: dict) -> list[tuple[str, str]]:
    def shown(name: str, form: str, unit: str = "") -> str:
        return rounded(row[name], form) + (unit if row[name] is not None else "")

    energy, gap = _measured(row, "formation_energy", "eV/atom"), _measured(row, "band_gap", "eV")
    decomposition, experimental = _measured(row, "decomposition_energy", "eV/atom"), row["experimental_band_gap_ev"]
    terms = [
        f"near the hull {shown('probability_near_hull', '.2f')}",
        f"likeness {shown('likeness', '.2f')}",
        f"gap as asked {shown('probability_gap_in_window', '.2f')}",
        f"diversity {shown('diversity', '.2f')}",
    ]
    return [
        ("rank", str(row["rank"])),
        ("file", f"<code>POSCAR-{escape(row['id'])}.vasp</code>"),
        ("oxidation states", _charges(row["elements"], row["oxidation_states"]) or "none found"),
        ("distance to the hull", _hull(row)),
        (
            "relaxed formation energy",
            shown("relaxed_formation_energy_ev_per_atom", "+.3f", " eV/atom, by the potential"),
        ),
        ("usefulness", f"{shown('usefulness', '.3f')}: {', '.join(terms)}"),
        ("decomposition energy", f"{decomposition} <small>by the model of formulas</small>"),
        ("formation energy", f"{energy} <small>by the model of formulas</small>"),
        ("band gap", f"{gap} <small>by the model of formulas</small>"),
        *([("experimental gap", _measured(row, "experimental_band_gap", "eV"))] if experimental is not None else []),
        ("probability of a gap", shown("probability_nonmetal", ".2f")),
        ("distance from training", shown("distance_from_training", ".2f", " (1 is usual)")),
        ("supply of the elements", shown("hhi_production", ",.0f", " (Herfindahl-Hirschman index, 0 to 10,000)")),
        ("structure from", _origin(row)),
        ("space group", _space_groups(row)),
        ("relaxation", _relaxation(row)),
        ("density", f"{shown('density_g_per_cm3', '.2f', ' g/cm³')}, {shown('volume_a3_per_atom', '.1f', ' Å³/atom')}"),
        (
            "shortest distance",
            f"{shown('minimum_distance_angstrom', '.2f', ' Å')}; "
            f"in sums of covalent radii: {shown('minimum_distance_ratio', '.2f')}",
        ),
        ("global instability", shown("global_instability_index_vu", ".2f", " valence units")),
        (
            "nearest known formula",
            f"{page.formula(row['nearest_known_formula'])} <small>{escape(row['nearest_known_id'])}</small>",
        ),
    ]


def _hull(row: dict) -> str:
    if row["energy_above_hull_ev_per_atom"] is None:
        return escape(_why(row))
    phases_of = re.sub(r"[A-Z]\w*", lambda m: page.formula(m[0]), row["decomposition"] or "")
    return (
        f"<b>{rounded(row['energy_above_hull_ev_per_atom'], '+.3f')} eV/atom</b> against {phases_of} "
        f"(shares of the atoms); "
        f"{row['n_hull_references']:,} references: {escape(row['hull_source'] or '')}"
        + (f"; {escape(row['hull_remark'])}" if row["hull_remark"] else "")
    )


def _origin(row: dict) -> str:
    if row["origin"] != "template":
        return ORIGINS[row["origin"]]
    probability = rounded(row["template_probability"], ".2f")
    return (
        f"{escape(row['template_source'])} {escape(row['template_label'])}, {page.formula(row['template_formula'])}; "
        f"probability {probability} <small>{escape(row['prototype'])}</small>"
    )


def _space_groups(row: dict) -> str:
    now = f"{escape(row['space_group_symbol'] or 'none')} ({row['space_group_number'] or '–'})"
    before = row["space_group_number_before"]
    if not row["relaxed"]:
        return now
    return f"{now}, {'as' if before == row['space_group_number'] else before or 'none'} before relaxation"


def _relaxation(row: dict) -> str:
    if not row["relaxed"]:
        return "none"
    return (
        f"{escape(row['potential'])}, {'converged' if row['converged'] else '<b>not converged</b>'} after "
        f"{row['relaxation_steps']} steps: {row['maximum_force_ev_per_angstrom']:.3f} eV/Å, "
        f"{row['maximum_stress_gpa']:.2f} GPa left; volume × {row['relaxation_volume_ratio']:.3f}"
    )


def _measured(row: dict, name: str, unit: str) -> str:
    value, width = row[f"{name}_{_UNIT[unit]}"], row[f"{name}_uncertainty_{_UNIT[unit]}"]
    return "–" if value is None else f"{rounded(value, '.2f')} ± {rounded(width, '.2f')} {unit}"


def _charges(elements: Sequence[int], states: Sequence[int] | None) -> str:
    pairs = zip(elements, states or (), strict=bool(states))
    return " ".join(f"{SYMBOLS[z - 1]}<sup>{abs(state)}{'−' if state < 0 else '+'}</sup>" for z, state in pairs)


def changed_symmetries(structures: pa.Table) -> str:
    """The relaxed structures whose space group is another than before, exported or not."""
    relaxed = [row for row in cells.plain_rows(structures) if row["relaxed"]]
    if not relaxed:
        return page.missing("No structure was relaxed, so none changed its space group.")
    changed = [row for row in relaxed if row["space_group_number"] != row["space_group_number_before"]]
    kept = f"{len(relaxed) - len(changed):,} of {len(relaxed):,} relaxed structures"
    if not changed:
        return page.paragraph(f"{kept} have the space group that they were built with.")
    heads = [
        ("rank", ""),
        ("id", ""),
        ("before", "space group"),
        ("after", ""),
        ("energy", "eV/atom, the potential's"),
        ("to the hull", "eV/atom"),
        ("handed over", "or why not"),
    ]
    rows = [
        [
            number(row["rank"]),
            text(row["id"]),
            number(row["space_group_number_before"], "d"),
            Cell(
                f"{row['space_group_number'] or '–'} <small>{escape(row['space_group_symbol'] or '')}</small>",
                row["space_group_number"] or "",
                "n",
            ),
            number(row["energy_ev_per_atom"], ".3f"),
            number(row["energy_above_hull_ev_per_atom"], "+.3f"),
            text(funnel.REASONS.get(row["rejected_by"], row["rejected_by"]) if row["rejected_by"] else "yes"),
        ]
        for row in changed
    ]
    said = f"{kept} have the space group that they were built with. The others:"
    return page.paragraph(said) + page.table(heads, rows, sortable=True)
