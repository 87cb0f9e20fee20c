"""docs/structures.md from what was measured."""

import textwrap
from collections.abc import Iterable, Sequence

from benchmarks.structures.assignment import FREE, KEPT, SCALES_EV_PER_ATOM
from benchmarks.structures.known import MAX_SITES, SEED
from benchmarks.structures.rates import SHAKEN_ANGSTROM, SHAKEN_STRAIN

_LISTED = 12


def page(measured: dict[str, list[dict]]) -> str:
    """The page; ``measured`` holds the lines of each measurement by its name."""
    library, assignment, robustness = (measured[name][0] for name in ("library", "assignment", "robustness"))
    before, after = assignment["before"], assignment["after"]
    text = f"""# From a formula to a crystal: what was measured

Written by `python -m benchmarks.structures --data $KIMBERLITE_DATA --export results/default/export`, on two cores
of a CPU,
without a GPU. CHGNet was trained on relaxations of the Materials Project: figures after relaxation of its crystals
are no test
of the potential.

## The template library

{library["structures"]:,} crystals of the Materials Project and AFLOW's prototypes become {library["templates"]:,}
templates of
{library["prototypes"]:,} prototypes (anonymous formula, space group, Wyckoff letters) in
{_minutes(library["build_s"])} with
{library["processes"]} processes (asked: 30 minutes); {library["megabytes"]} MB. A campaign loads them in
{library["load_s"]:.0f} s and ranks those of a
formula in {before["lookup_ms"]:.0f} ms (median).

## Known crystals found again

{before["targets"]} compounds of the Materials Project with hull distance 0 and at most {MAX_SITES} atoms in the
cell, one crystal a formula,
drawn with seed {SEED}; all crystals of the formula are hidden, the rest of the library stays. Found: the crystal is
the first,
or among the first five, of those proposed, by pymatgen's `StructureMatcher` with its default tolerances. The
ranking never saw
these compounds ([card](../resources/models/template_ranking/README.md)); oxidation states are guessed from the
formula.

| before relaxation | compounds | first | among five |
|---|---|---|---|
| all (asked: 75 % and 90 %) | {_shares(before)} |
{_lines(f"| {n} elements | {_shares(mine)} |" for n, mine in before["elements"].items())}

How much the probability means, for the first proposal:

| said, mean | compounds | were right |
|---|---|---|
{_lines(f"| {said:.2f} | {n} | {_percent(right)} |" for n, said, right in before["probability"])}

### After relaxation

The proposals of the first {after["before"]["targets"]} of these compounds, {after["structures"]:,} structures,
relaxed with CHGNet ({KEPT.max_steps} steps, {KEPT.fmax_ev_per_angstrom}
eV/angstrom, symmetry kept): {after["relaxed"]:,} relaxed, {after["converged"]:,} of them converged.

| order of the five | first | among five |
|---|---|---|
| before relaxation | {_two(after["before"])} |
{_lines(f"| {_order(scale)} | {_two(after['scales'][str(scale)])} |" for scale in SCALES_EV_PER_ATOM)}
| scale chosen on one half, measured on the other | {_two(after["chosen"])} |

{_verdict(after)} `judge` weighs both: logarithm of the probability less energy over `energy_scale_ev_per_atom`.

### Symmetry

Of {after["compared"]:,} structures relaxed with symmetry kept, {_percent(after["kept"] / after["compared"])} have
the space group of their template afterwards (asked: 95 %). The others,
with the energy that relaxation free of symmetry ({FREE.max_steps} steps) gains on it:

| formula | template | relaxed | gain, eV/atom |
|---|---|---|---|
{_groups(after["changed"])}

Free of symmetry {_percent(after["free_kept"] / after["compared"])} keep it. {len(after["free_gains"])} lose it and
gain more than 1 meV/atom; the largest gains:

| formula | template | relaxed free | gain, eV/atom |
|---|---|---|---|
{_groups(after["free_gains"][:_LISTED])}

So a structure handed over with its symmetry kept may be a saddle; `relax.keep_symmetry: false` lets it go.

## Rate of relaxation

Beside CHGNet's own `StructOptimizer` (ASE's FIRE, one structure at a time) on the same crystals, moved by
{SHAKEN_ANGSTROM} angstrom
and strained by {SHAKEN_STRAIN}; same filter, same largest force, same number of steps at most, free of symmetry; in
turns, in one run, with as many threads for CHGNet's as processes for ours. The difference is of energies, in eV/atom.

| processes | crystals | ours, 1/s | CHGNet's, 1/s | ratio (min, max) | steps, ours and theirs | largest difference |
|---|---|---|---|---|---|---|
{_lines(_rate(line) for line in measured["rates"])}

The gain on a CPU comes from one pass backwards for forces and stress together, and from sharing what the bonds of
both
directions and all angles of an atom have in common. Measured on: {measured["rates"][0]["device"]}.

## Bad structures among good ones

{robustness["cells"]:,} structures, {robustness["planted"]} of them planted:
{", ".join(f"{n} of {kind}" for kind, n in robustness["reported"].items())}. All {sum(robustness["reported"].values())}
were reported with
the fitting reason, all {robustness["treated"]:,} others treated, none aborted: {robustness["relaxed"]:,} relaxed
({robustness["max_steps"]} step at most), the rest with a
reason ({_reasons(robustness["reasons"])}). {_minutes(robustness["seconds"])}.

## A real DFT code reads what is handed over

GPAW 22.8 (Debian; plane waves to 400 eV, PBE, one thread) on the best-ranked candidates of `results/default/export`
with at
most 12 atoms and setups for all elements. It shows that the files are read and that the SCF converges; the settings
are
loose, the energies not for use.

| id | atoms | SCF iterations | energy of the cell, eV | seconds | converged |
|---|---|---|---|---|---|
{_lines(_scf(line) for line in measured["dft"])}
"""
    return "\n\n".join(_wrapped(part) for part in text.split("\n\n"))


def _wrapped(part: str) -> str:
    return part if part.startswith(("|", "#")) else textwrap.fill(part, 120, break_on_hyphens=False)


def _verdict(after: dict) -> str:
    if after["scales"]["0.0"]["first"] > after["before"]["first"]:
        return "Energies improve the order."
    return (
        "Energy alone is worse than the templates' chemistry: the potential's errors are as large as the differences "
        "between polymorphs, and one of several wrong structures often lies a little lower."
    )


def _shares(found: dict) -> str:
    return f"{found['targets']} | {_two(found)}"


def _two(found: dict) -> str:
    return f"{_percent(found['first'])} | {_percent(found['five'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _order(scale: float) -> str:
    return "energy alone" if scale == 0 else f"probability and energy, {1e3 * scale:g} meV/atom a factor e"


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _groups(rows: Sequence[Sequence]) -> str:
    lines = [f"| {formula} | {old} | {new} | {gain:.4f} |" for formula, old, new, gain in rows]
    return _lines(lines or ["| none | | | |"])


def _rate(line: dict) -> str:
    ratio = line["ratio"]
    return (
        f"| {line['processes']} | {line['compared']} | {line['ours_per_s']} | {line['peer_per_s']} | "
        f"{ratio['median']} ({ratio['min']}, {ratio['max']}) | {line['steps']:,} and {line['peer_steps']:,} | "
        f"{line['largest_energy_difference_ev_per_atom']:.1e} |"
    )


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(reasons.items())) or "none"


def _scf(line: dict) -> str:
    if "error" in line:
        return f"| {line['id']} | | | | {line['seconds']} | no: {line['error']} |"
    return (
        f"| {line['id']} | {line['atoms']} | {line['iterations']} | {line['energy_ev']:.2f} | {line['seconds']} | "
        f"{'yes' if line['converged'] else 'no'} |"
    )
