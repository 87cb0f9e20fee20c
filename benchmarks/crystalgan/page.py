"""The page ``docs/crystalgan.md``: what was found, in tables, pictures and plain words."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from benchmarks.crystalgan.beyond import Crystal
from benchmarks.crystalgan.evaluate import GATE
from benchmarks.crystalgan.hull import NEAR_HULL_EV_PER_ATOM
from benchmarks.crystalgan.methods import ANION, UNTRAINED, Job, Outputs
from benchmarks.crystalgan.pictures import SYMPREC_ANGSTROM, draw_crystals, draw_distances
from pipeline.cells import Cell
from pipeline.composition import ATOMIC_NUMBERS
from pipeline.generators.crystalgan.drawing import EMPTY_ANGSTROM
from pipeline.generators.crystalgan.geometry import D1_ANGSTROM, D2_ANGSTROM, obeys
from pipeline.structures.symmetry import symmetry
from pipeline.structures.volume import too_close
from pipeline.tables import atomic

Pair = tuple[str, str]
COMMAND = "python -m benchmarks.crystalgan --data $KIMBERLITE_DATA --output docs/crystalgan.md"
NAMES = {
    "gan": "standard GAN (`gan`)",
    "discogan": "DiscoGAN (`discogan`)",
    "paper_unconstrained": "CrystalGAN without constraints (`paper_unconstrained`)",
    "paper": "CrystalGAN as published (`paper`)",
    UNTRAINED: "`default` before training",
    "default": "`default`",
}
# Table II of hal-01902821.
PUBLISHED = {
    ("gan", ("Pd", "Ni")): 0,
    ("gan", ("Mg", "Ti")): 0,
    ("discogan", ("Pd", "Ni")): 0,
    ("discogan", ("Mg", "Ti")): 0,
    ("paper_unconstrained", ("Pd", "Ni")): 4,
    ("paper_unconstrained", ("Mg", "Ti")): 2,
    ("paper", ("Pd", "Ni")): 9,
    ("paper", ("Mg", "Ti")): 8,
}
N_SHOWN, N_LISTED = 4, 5


@dataclass(frozen=True, eq=False)
class Findings:
    """What the page tells.

    Attributes:
        n_outputs: Draws of each training.
        seeds: Of Table II.
        drawn: Outputs of each training.
        measured: Of each method and pair, counts of each seed; see ``evaluate.measure``.
        together: The same of ``default`` when one model learns all these pairs.
        hulls: Of each pair, what its hull is made of; see ``hull.hull_of``.
        beyond: Of each method and pair, counts and distinct crystals; see ``beyond.look_beyond``.
        real: Materials Project's hydrides of two metals.
    """

    n_outputs: int
    seeds: Sequence[int]
    drawn: dict[Job, Outputs]
    measured: dict[tuple[str, Pair], list[dict[str, int]]]
    together: dict[Pair, list[dict[str, int]]]
    hulls: dict[Pair, dict]
    beyond: dict[tuple[str, Pair], tuple[dict[str, int], list[Crystal]]]
    real: list[Cell]


def write_page(path: Path, found: Findings) -> None:
    """Write the page, and its pictures into a folder of its name beside it."""
    folder = path.with_suffix("")
    pairs = list(dict.fromkeys(pair for _, pair in found.measured))
    draw_distances(folder / "distances.png", _sets(found), ANION)
    text = [_head(found), *(_table(found, pair) for pair in pairs), _caveats(found, folder), _contacts(found, pairs)]
    text += [_together(found), _times(found), _beyond(found), _best(found, folder), _EQUATIONS]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(text))


def _head(found: Findings) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "chgnet", "pymatgen"))
    return f"""<!-- Written by `{COMMAND}`; do not edit. -->
# CrystalGAN: what it makes

[CrystalGAN](https://hal.science/hal-01902821) (Nouira, Sokolovska, Crivello 2018) learns from hydrides of one
metal, A-H and B-H, and makes hydrides of two, A-B-H. This page holds our implementation, its baselines and our own
variant, the preset `default`, to the paper's Table II, and then asks what the paper did not: whether the crystals
survive a relaxation, how far above the convex hull they lie, and whether they are new.

    {COMMAND}

{time.strftime("%Y-%m-%d", time.gmtime())}, {os.cpu_count()} cores, {platform.system()}, Python
{platform.python_version()}, {versions}.

**The rule.** Each hydrogen's nearest hydrogen and each metal atom's nearest metal atom, periodic images counted,
lie within {D1_ANGSTROM} and {D2_ANGSTROM} angstrom. Distances between a metal and hydrogen are free, as in the
paper.

**`default`** keeps the paper's three steps: translation between the domains, feature transfer, and a second
translation that has to keep the rule. Its networks pass messages between neighbouring atoms, periodic images
counted; they move atoms along the bonds and strain the lattice, so that nothing depends on the choice of cell, its
rotation or the order of its atoms. Feature transfer gives some metal sites of a binary to the other metal, at
random. Cells are primitive and Niggli-reduced. Its geometric loss is the squared distance from the window, and it
keeps metals and hydrogen apart. How much of its result is training, and how much its input, the row "before
training" says: the same networks with 0 epochs, which leave the crystals of the database as they are but for the
new metal.

## Table II, side by side

{found.n_outputs} outputs of each method, {len(found.seeds)} seeds: mean (each seed). The paper does not state how
many outputs its counts are of. *Ternary*: an output with exactly the three elements. *Distinct*: different crystals
among those that obey, by pymatgen's `StructureMatcher` at its defaults. All methods learn from the same 35 + 35
binaries, those of Materials Project, filled up with the structures of other metals' hydrides where it has fewer;
`default` has them in reduced form.
"""


def _table(found: Findings, pair: Pair) -> str:
    rows = [
        (
            NAMES[method],
            *(_mean(counts, key) for key in ("ternary", "obey", "distinct")),
            PUBLISHED.get((method, pair), ""),
        )
        for (method, of), counts in found.measured.items()
        if of == pair
    ]
    return f"### {_system(pair)}\n\n" + _markdown(("method", "ternary", "obey the rule", "distinct", "paper"), rows)


def _caveats(found: Findings, folder: Path) -> str:
    n_obey = sum(obeys(cell, ATOMIC_NUMBERS[ANION]) for cell in found.real)
    n_pass = sum(not too_close(cell, GATE) for cell in found.real)
    share = f"{n_obey} of {len(found.real)} ({n_obey / len(found.real):.0%})"
    return f"""**Beside it, nature:** {share} of Materials Project's hydrides of two metals obey the rule; {n_pass} pass
the gate below. The rule is a convention, not a measure of stability.

![Nearest like neighbours of each method](<{folder.name}/distances.png>)

*Nearest like neighbours in all ternary outputs of all seeds, both systems; each row is scaled to its own maximum,
what lies beyond the axis is counted in the last bin.*
"""


def _contacts(found: Findings, pairs: Sequence[Pair]) -> str:
    keys = ("ternary", "in_contact", "gate", "in_contact_after_gate", "distinct_after_gate")
    rows = [
        (_system(pair), NAMES[method], *(_mean(found.measured[method, pair], key) for key in keys))
        for pair in pairs
        for method in dict.fromkeys(method for method, _ in found.measured)
    ]
    head = (
        "system",
        "method",
        "ternary",
        "metal-H contact",
        "pass the gate",
        "contact after the gate",
        "pass, obey, distinct",
    )
    return f"""## Contacts

The rule leaves metal and hydrogen free, and the paper's own example has H-Pd at 0.81 angstrom, 0.48 of the sum of
covalent radii. Counted here: ternaries with a metal-hydrogen pair nearer than {GATE} of that sum. The gate of the
structures stage (`structures.build.min_distance_factor`) rejects every crystal with any such pair, so that none is
left after it.

{_markdown(head, rows)}"""


def _together(found: Findings) -> str:
    keys = ("ternary", "obey", "distinct")
    rows = [(_system(pair), *(_mean(counts, key) for key in keys)) for pair, counts in found.together.items()]
    return f"""## Several pairs in one model

`default` knows the elements by their properties, so that one model learns several pairs. One model of
{len(found.together)} pairs, {len(found.together) * found.n_outputs} outputs, {len(found.seeds)} seeds:

{_markdown(("system", "ternary", "obey the rule", "distinct"), rows)}"""


def _times(found: Findings) -> str:
    rows = []
    for method, name in NAMES.items():
        of_method = [drawn for job, drawn in found.drawn.items() if job.method == method]
        if of_method and of_method[0].epochs:
            seconds = [drawn.seconds for drawn in of_method]
            rows.append((name, of_method[0].epochs, len(seconds), f"{mean(seconds):.0f}", f"{max(seconds):.0f}"))
    head = ("method", "epochs, all steps", "trainings", "mean, s", "longest, s")
    return f"""## Time of a training

Processor time on one thread, which is the time by the clock where a core is free; without writing checkpoints. The
paper trains 1,000 epochs a step, and so do all but `default`; GAN and DiscoGAN, of one step, train 2,000.

{_markdown(head, rows)}"""


def _beyond(found: Findings) -> str:
    keys = (
        "ternary",
        "gate",
        "crystals",
        "converged",
        "distinct",
        "near_hull",
        "below_hull",
        "new",
        "near_hull_and_new",
    )
    head = ("system", "method", "ternary", "pass the gate", "crystals", "converged", "distinct")
    head += (f"within {NEAR_HULL_EV_PER_ATOM} eV/atom", "below the hull", "new", "within and new", "rediscovered")
    rows = [
        (
            _system(pair),
            NAMES[method],
            *(counts[key] for key in keys),
            f"{counts['rediscovered']} of {_known(found, pair)}",
        )
        for (method, pair), (counts, _) in found.beyond.items()
    ]
    hulls = [
        (
            _system(pair),
            about["references"],
            about["failed"],
            about["not_converged"],
            ", ".join(about["added_elements"]) or "none",
            f"{about['of_all_elements_near_hull']} of {about['of_all_elements']}",
        )
        for pair, about in found.hulls.items()
    ]
    absent = sorted({symbol for about in found.hulls.values() for symbol in about["added_elements"]})
    gaps = f" (it has no {' and no '.join(absent)})" if absent else ""
    near = f"known ternaries within {NEAR_HULL_EV_PER_ATOM} eV/atom"
    return f"""## Beyond the paper

Seed {found.seeds[0]}, {found.n_outputs} outputs. What passes the gate is relaxed with CHGNet (atoms and cell, 100
steps at most, to 0.1 eV/angstrom). *Crystals*: the relaxation ran, the volume stayed within a factor of 2, and no
two atoms came too near. *Distinct*, after relaxation; all columns to its right count among these. *New*: no crystal
of Materials Project with the same formula matches. *Rediscovered*: different crystals of Materials Project that
were found, of those that it has in the system.

{_markdown(head, rows)}
**The hull** is made of Materials Project's entries of the system, the elements and binaries among them, relaxed with
the same potential in the same way, so that its errors partly cancel. Elements without an entry come in as ASE's
ground states.

{_markdown(("system", "references", "failed", "not converged", "elements added", near), hulls)}
Read these figures with care:
- CHGNet was trained on Materials Project's relaxations: known crystals are no test of it, and hydrides unlike those
  it hardly knows. Only DFT can say how stable a crystal is.
- This copy of Materials Project is not whole{gaps}: some crystals called new may be known, and a hull that lacks
  entries lies too high, so distances from it are lower bounds.
- Hull distances are of electronic energies at 0 K; hydrogen's zero-point energy and entropy are left out.
- A crystal that did not converge keeps the energy of its last step.
"""


def _best(found: Findings, folder: Path) -> str:
    parts = ["## The crystals nearest to the hull\n"]
    for (method, pair), (_, crystals) in found.beyond.items():
        if method != "default" or not crystals:
            continue
        name = _system(pair)
        draw_crystals(folder / f"{name}.png", crystals[:N_SHOWN], (*pair, ANION))
        rows = []
        for crystal in crystals[:N_LISTED]:
            group = symmetry(crystal.relaxed.cell, SYMPREC_ANGSTROM)
            group = f"{group.symbol} ({group.number})" if group else "not found"
            volume = crystal.relaxed.cell.volume / len(crystal.relaxed.cell.elements)
            distance = f"{crystal.hull_distance_ev_per_atom:+.3f}"
            rows.append((crystal.formula, group, distance, f"{volume:.1f}", crystal.known_id or "new"))
        head = ("formula", "space group", "above the hull, eV/atom", "volume, A^3/atom", "Materials Project")
        parts.append(f"### {name}\n\n![Crystals of {name}](<{folder.name}/{name}.png>)\n\n{_markdown(head, rows)}")
    return "\n".join(parts)


_EQUATIONS = f"""## What the paper leaves open

- **Equation 13 rewards distance from d2 without bound.** It is the negative square of a distance's difference from
  d2. Equation 12 is content with a single atom at d1. With the same weight for both, as published, their sum is
  lowest, d1^2 - d2^2, where like atoms coincide (at equal distances s it is 2 (d2 - d1) s and a constant): the
  constraint pulls atoms together. `paper` has both as written; `default` penalises what lies outside the window, for
  every atom.
- **An atom at the origin cannot be told from a placeholder**: both are zeros. Our encoding keeps beside the
  coordinates which slots hold an atom. DiscoGAN and the standard GAN have only the numbers: an output within
  {EMPTY_ANGSTROM} angstrom of the origin is taken for no atom, also where it is one.
- **The number of outputs** behind Table II is not stated, nor how "good quality" counts equal crystals.
- **The distance in the reconstruction losses, the noise of the standard GAN, and what feature transfer takes from
  where** are not stated; our choices stand in the docstrings of `pipeline/generators/crystalgan/`.
"""


def _sets(found: Findings) -> dict[str, list[Cell]]:
    sets = {"Materials Project": found.real}
    for method in dict.fromkeys(method for method, _ in found.measured):
        jobs = [Job(method, (pair,), seed) for of, pair in found.measured if of == method for seed in found.seeds]
        cells = [cell for job in jobs for cell in found.drawn[job].cells]
        name = "default, before training" if method == UNTRAINED else method
        sets[name] = [cell for cell in cells if len(set(cell.elements.tolist())) == 3]
    return sets


def _known(found: Findings, pair: Pair) -> int:
    return found.hulls[pair]["of_all_elements"]


def _system(pair: Pair) -> str:
    return "-".join((*pair, ANION))


def _mean(counts: list[dict[str, int]], key: str) -> str:
    values = [of_seed[key] for of_seed in counts]
    return f"{mean(values):.1f} ({', '.join(map(str, values))})"


def _markdown(head: Sequence, rows: Sequence[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
