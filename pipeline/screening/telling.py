"""What :func:`pipeline.screening.explain.explain` found, in words for the terminal."""

from pipeline.report.funnel import words

_TERMS = {
    "near_hull": "probability to lie near the hull",
    "likeness": "likeness to made compounds",
    "gap": "probability of the gap asked for",
    "novelty": "novelty",
    "diversity": "diversity",
}
_NAMES = {"known": "require_novel"}
"""Cutoffs whose key in the config is another than their reason."""


def tell(found: dict) -> str:
    """All of it, line by line; the first line says where the formula stands."""
    sections = [
        [f"{found['formula']} in campaign {found['campaign']} ({found['results']})", f"  {verdict(found)}"],
        _origin(found),
        _scores(found),
        _terms(found),
        _cutoffs(found),
        _standing(found),
        _nearest(found["nearest_known"]),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in lines) for lines in sections if lines) + "\n"


def verdict(found: dict) -> str:
    """Where the formula stands, in a sentence or two."""
    stopped, standing, n = found["stopped_by"], found["standing"], found["criteria"]["n_selected"]
    recorded = found["recorded"] and found["recorded"][0]
    if recorded and recorded["rank"]:
        return f"Selected: rank {recorded['rank']:,} (n_selected is {n:,})."
    never = "" if found["drawn"] else "Never drawn. "
    rejected = "It would be rejected" if never else "Rejected"
    if stopped == "filter":
        return f"{never}{rejected} by the filter: {words(found['filter']['verdict'])}."
    if stopped:
        cutoff = next(each for each in found["cutoffs"] if each["key"] == stopped)
        return f"{never}{rejected} by {_NAMES.get(stopped, stopped)}: {words(stopped)}{_beyond(cutoff)}."
    if standing is None:
        return f"{never}It passes the filter and every cutoff; the campaign has not been screened, so it has no rank."
    left_out = "Not selected" if recorded else f"{never}It would not be selected"
    if standing["beaten"]:
        better = len(standing["better_in_system"])
        return f"{left_out}: {better} of the same elements are better, and no more of them are ranked."
    place = f"rank {standing['position']:,} of {standing['n_ranked'] + 1:,} that are ranked"
    if standing["position"] > n:
        return f"{left_out}: {place}, and {n:,} are selected."
    return f"{never}It would have {place}."


def _beyond(cutoff: dict) -> str:
    limit = f", the limit is {_short(cutoff['limit'])}" if _is_number(cutoff["limit"]) else ""
    return f" ({_short(cutoff['value'])}{limit})" if cutoff["value"] not in (None, True) else ""


def _origin(found: dict) -> list[str]:
    ids = [entry["id"] for entry in found["known"]]
    database = f"known: {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''}" if ids else "not in it"
    drawn = found["drawn"]
    times = sum(row["n_drawn"] for row in drawn)
    crystals = f", as {len(drawn)} crystals" if len(drawn) > 1 else ""
    sampled = f"{times:,} time{'s' if times > 1 else ''}{crystals}" if drawn else "never"
    rules, states = found["filter"]["rules"], found["filter"]["oxidation_states"]
    charges = states and " ".join(
        f"{symbol}{abs(state)}{'-' if state < 0 else '+' if state else ''}" for symbol, state in states.items()
    )
    switched = [
        f"alloys {'untested' if rules['include_alloys'] else 'tested'}",
        f"Pauling test {'on' if rules['pauling_test'] else 'off'}",
        f"mixed valence {'on' if rules['mixed_valence'] else 'off'}",
    ]
    told = "valid" if found["filter"]["valid"] else "rejected" if found["filter"]["rejects"] else "noted only"
    lines = [
        f"  database  {database}",
        f"  drawn     {sampled}",
        f"  filter    {found['filter']['verdict']} ({told}){f': {charges}' if charges else ''}",
        f"            oxidation states {rules['oxidation_states']}, {', '.join(switched)}",
    ]
    if found["changed_since"]:
        keys = ", ".join(found["changed_since"])
        fate = found["recorded"][0] if found["recorded"] else {}
        recorded = f"rank {fate['rank']:,}" if fate.get("rank") else fate.get("rejected_by")
        lines.append(
            f"  note      screening.select has changed since the campaign was screened ({keys}): ranks are of the old "
            f"settings{f', by which it was recorded: {recorded}' if recorded else ''}; run `snakemake screening` again"
        )
    return lines


def _scores(found: dict) -> list[str]:
    scores = found["scores"]
    how = "by the models now" if found["scored_now"] else "as the campaign recorded them"
    lines = [f"Scores, {how}" + ("; the models may have learnt from this compound" if found["known"] else "")]
    energy, hull = scores["formation_energy_ev_per_atom"], scores["decomposition_energy_ev_per_atom"]
    lines += _interval(
        scores,
        "formation_energy",
        "ev_per_atom",
        energy is not None and ("bound against the elements" if energy < 0 else "not bound against the elements"),
    )
    lines += _interval(
        scores,
        "decomposition_energy",
        "ev_per_atom",
        hull is not None
        and ("above the hull of all other compounds" if hull > 0 else "not above the hull: stable, if true"),
    )
    lines += _interval(scores, "band_gap", "ev", scores["band_gap_ev"] == 0 and "called a metal")
    lines += _interval(
        scores, "experimental_band_gap", "ev", scores["experimental_band_gap_ev"] == 0 and "called a metal"
    )
    plain = {
        "probability_nonmetal": "probability of a gap above 0",
        "likeness": "0 as charge-balanced formulas at large, 1 as made compounds",
        "distance_from_training": "1 is usual for what the models learnt from; beyond, they guess",
        "nearest_known_distance": "0 same composition, 2 no element shared",
        "hhi_production": "supply by production: above 2,500 few countries have it",
        "hhi_reserve": "supply by reserves: the same",
    }
    lines += [
        f"  {name.replace('_', ' '):<24}{_short(scores[name]):>9}{'':19}{meaning}"
        for name, meaning in plain.items()
        if scores[name] is not None
    ]
    return lines + ([f"  unscored: {scores['unscored_because']}"] if scores["unscored_because"] else [])


def _interval(scores: dict, name: str, unit: str, remark: str | bool) -> list[str]:
    value, width = scores[f"{name}_{unit}"], scores[f"{name}_uncertainty_{unit}"]
    if value is None:
        return []
    shown = "eV/atom" if unit == "ev_per_atom" else "eV"
    low = value - width if unit == "ev_per_atom" else max(value - width, 0)
    text = f"  {name.replace('_', ' '):<24}{value:>9.3f} ± {width:<6.3f} {shown:<9}"
    return [text + f"nine in ten lie from {low:.2f} to {value + width:.2f}" + (f"; {remark}" if remark else "")]


def _terms(found: dict) -> list[str]:
    standing, criteria = found["standing"], found["criteria"]
    told = {"near_hull": f"at most {criteria['near_hull_ev_per_atom']:g} eV/atom above", "gap": criteria["gap_window"]}
    if standing:
        told["diversity"] = f"number {standing['place']} of its elements"
    useful = f": usefulness {standing['usefulness']:.4g}, their product" if standing else ""
    lines = [f"Terms{useful}; a share is of what lacks to 1, in logarithms"]
    for term in found["terms"]:
        share = "" if term["share"] is None or not term["weight"] else f"{100 * term['share']:.0f} %"
        value = "none" if term["value"] is None else f"{term['value']:.4f}"
        name = _TERMS[term["term"]] + (f" ({told[term['term']]})" if term["term"] in told else "")
        lines.append(f"  {name:<64}{value:>7}  weight {term['weight']:<5g}{share:>6}")
    return lines


def _cutoffs(found: dict) -> list[str]:
    lines = ["Cutoffs, in order"]
    for cutoff in found["cutoffs"]:
        key = cutoff["key"]
        mark = "pass" if cutoff["passes"] else "FAIL"
        value = "" if cutoff["value"] in (None, False, True) else f"  here {_short(cutoff['value'])}"
        limit = f"{_short(cutoff['limit']):>8}" if _is_number(cutoff["limit"]) else f"{'':8}"
        stopped = "  <- stopped it" if key == found["stopped_by"] else ""
        lines.append(f"  {mark}  {_NAMES.get(key, key):<50}{limit}{value}{stopped}")
    return lines


def _standing(found: dict) -> list[str]:
    standing = found["standing"]
    if not standing or not standing["better_in_system"]:
        return []
    lines = ["Better candidates of the same elements"]
    for row in standing["better_in_system"]:
        rank = f"rank {row['rank']:,}" if row["rank"] else "not selected"
        lines.append(f"  {row['id']:<24}usefulness {row['usefulness']:.4g}, {rank}")
    return lines


def _nearest(rows: list[dict]) -> list[str]:
    lines = [f"{'Nearest known compounds':<26}{'distance':>9}{'formation':>11}{'above hull':>12}{'gap':>8}  id"]
    units = f"{'':<26}{'0 to 2':>9}{'eV/atom':>11}{'eV/atom':>12}{'eV':>8}"
    for row in rows:
        values = [
            row[name] for name in ("formation_energy_ev_per_atom", "energy_above_hull_ev_per_atom", "band_gap_ev")
        ]
        shown = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append(
            f"  {row['formula']:<24}{row['distance']:>9.3f}{shown[0]:>11}{shown[1]:>12}{shown[2]:>8}  {row['id']}"
        )
    return [lines[0], units, *lines[1:]]


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
