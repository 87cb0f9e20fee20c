"""OPTIMADE: one filter language and one form of answer for many databases (Evans et al. 2024, doi:10.1039/D4DD00039K).

``OptimadeClient`` of optimade-python-tools puts each question and reads each answer, a page at a time. Its own loop
over pages keeps them all in memory and loses them at the first fault, asks again after HTTP 429 only, and goes wherever
a link sends it. So that loop is here, where each page can be stored before the next is asked for, and the client is
given an HTTP session that asks again until a whole page comes, of the host that was asked.

Settings of a source: ``url`` (the provider's base URL), ``filter`` (all structures without), ``columns``
(``{target: {column: _oqmd_delta_e, unit: eV/atom}}``, dots in ``column`` lead into nested properties), ``page_limit``
(the provider's own without), ``timeout_s``: seconds of silence after which a request is put again.
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES, parse_formula
from pipeline.database.columns import unit_factors
from pipeline.database.crystals import MAX_SITES
from pipeline.database.records import MAX_REASON, Row, as_text, number
from pipeline.database.remote import CREDITS, Page
from pipeline.database.remote.session import LONGEST_WAIT_S, patient_session, same_host, shown
from pipeline.text import visible

if TYPE_CHECKING:
    from optimade.client import OptimadeClient
    from optimade.client.utils import QueryResults

TIMEOUT_S = 60.0
# A link back to a page that we had: a stale answer mends itself when asked again, a circle never ends.
MAX_VISITS = 3
SHARE_TOLERANCE = 1e-6

_END = ""  # the cursor of the last page; None would be the beginning
_STRUCTURE = (
    "chemical_formula_reduced",
    "nperiodic_dimensions",
    "structure_features",
    "lattice_vectors",
    "cartesian_site_positions",
    "species_at_sites",
    "species",
)
_NO_CRYSTAL = {
    "disorder": "sites are partly or mixedly occupied",
    "implicit_atoms": "some atoms have no site",
    "site_attachments": "atoms hang on sites without a position of their own",
    "assemblies": "some sites exclude others",
}


def about(settings: dict) -> dict:
    """What the provider says of itself; its licence, where it states none, from its own pages where they are known.

    Raises:
        ValueError: No OPTIMADE provider answers at the URL.
    """
    answer = _ask(_client(settings, _flaw), settings, "info")
    info = _dict(_dict(answer.data).get("attributes"))
    provider, server = _dict(answer.meta.get("provider")), _dict(answer.meta.get("implementation"))
    licence, citation = CREDITS.get(as_text(provider.get("prefix")), (None, None))
    stated = info.get("available_licenses") or info.get("license")
    stated = stated.get("href") if isinstance(stated, dict) else stated
    stated = ", ".join(map(as_text, stated)) if isinstance(stated, list) else as_text(stated)
    version = [info.get("api_version") or answer.meta.get("api_version"), server.get("name"), server.get("version")]
    return {
        "provider": visible(as_text(provider.get("name"))) or urlsplit(settings["url"]).hostname,
        "version": visible(" ".join(filter(None, ["OPTIMADE", *map(as_text, version)]))[:MAX_REASON]),
        "licence": visible(stated[:MAX_REASON]) or licence,
        "citation": citation,
    }


def pages(settings: dict, cursor: str | None) -> Iterator[Page]:
    """Structures page by page; the cursor is the link to the next page, "" after the last.

    Raises:
        ValueError: A setting cannot be meant so, or the server refuses, sends us elsewhere or gives no whole page.
    """
    client, visits = _client(settings, _page_flaw), Counter()
    while cursor != _END:
        answer = _ask(client, settings, "structures", cursor)
        if cursor is None:
            _check_columns(settings, answer.data)
        asked = cursor or f"{client.base_urls[0]}/v1/structures"
        cursor = _next(answer.links.get("next"), asked, settings)
        visits[cursor] += 1
        if visits[cursor] > MAX_VISITS:
            raise ValueError(f"{shown(cursor)}: the server's links to the next page lead back to it again and again")
        total, delay = answer.meta.get("data_returned"), answer.meta.get("request_delay")
        yield Page(answer.data, cursor, total if type(total) is int and total >= 0 else None)
        if cursor != _END and isinstance(delay, int | float) and delay > 0:
            time.sleep(min(delay, LONGEST_WAIT_S))


def fill(row: Row, record: dict, settings: dict) -> None:
    """Set the row from one structure: a crystal, or a formula alone where the provider gives no positions.

    Refused is what a list of whole atoms cannot say: sites that are partly or mixedly occupied, atoms that are attached
    or have no site, species that are no element, structures that are not periodic in three directions. A site that is
    wholly vacant is left out. Isotopes are their element, as everywhere here.
    """
    if not row.name(as_text(record.get("id")), "'id'"):
        return
    attributes = _dict(record.get("attributes"))
    try:
        for name, (path, factor) in _columns(settings).items():
            value = number(_at(attributes, path), path, factor)
            if value is not None:
                row.targets[name] = value
        formula = as_text(attributes.get("chemical_formula_reduced"))
        try:
            cell = _cell(attributes)
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
            raise ValueError(f"no cell: {said}") from None
        if cell is None:
            row.amounts = parse_formula(formula)
            return
        elements, counts = np.unique(cell.elements, return_counts=True)
        amounts = dict(zip(elements.tolist(), counts.tolist(), strict=True))
        if formula and _reduced(parse_formula(formula)) != _reduced(amounts):
            raise ValueError(f"the sites do not make up the formula {formula!r}")
        row.cell, row.amounts = cell, amounts
    except ValueError as error:
        row.reason = visible(" ".join(str(error).split())[:MAX_REASON])


def _cell(attributes: dict) -> Cell | None:
    """The crystal, None where there are no positions; a ``ValueError`` says why it is none."""
    for feature in attributes.get("structure_features") or ():
        if feature in _NO_CRYSTAL:
            raise ValueError(f"{_NO_CRYSTAL[feature]} ({feature})")
    periodic = attributes.get("nperiodic_dimensions")
    if periodic not in (None, 3):
        raise ValueError(f"periodic in {as_text(periodic)} directions, a crystal is in 3")
    lattice, positions, sites = (
        attributes.get(name) for name in ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
    )
    if not (lattice and positions and sites):
        return None
    if len(sites) > MAX_SITES:
        raise ValueError(f"{len(sites)} sites, up to {MAX_SITES} can be read")
    used, listed = set(sites), attributes.get("species")
    if listed is None:  # then the names are the symbols
        listed = [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in used]
    numbers = {species["name"]: _atomic_number(species) for species in listed if species["name"] in used}
    elements = np.array([numbers[name] for name in sites], dtype=np.uint8)
    lattice = np.array(lattice, dtype=np.float64).reshape(3, 3)
    positions = np.array(positions, dtype=np.float64).reshape(len(sites), 3)
    fractional = np.linalg.solve(lattice.T, positions.T).T
    return Cell(lattice, elements[elements > 0], fractional[elements > 0])


def _atomic_number(species: dict) -> int:
    """Atomic number of a species that is one element, 0 of one that is a vacancy."""
    name = as_text(species["name"])[:20]
    if species.get("attached"):
        raise ValueError(f"species {name!r}: {_NO_CRYSTAL['site_attachments']}")
    shares = Counter()
    for symbol, share in zip(species["chemical_symbols"], species["concentration"], strict=True):
        shares[ISOTOPES.get(symbol, symbol)] += float(share)
    symbol, share = max(shares.items(), key=lambda item: item[1])
    if abs(share - 1) > SHARE_TOLERANCE or abs(sum(shares.values()) - 1) > SHARE_TOLERANCE:
        raise ValueError(f"species {name!r}: {_NO_CRYSTAL['disorder']}")
    if symbol == "vacancy":
        return 0
    if symbol not in ATOMIC_NUMBERS:
        raise ValueError(f"species {name!r}: '{as_text(symbol)[:20]}' is no element")
    return ATOMIC_NUMBERS[symbol]


def _reduced(amounts: dict[int, int]) -> dict[int, int]:
    divisor = int(np.gcd.reduce(list(amounts.values())))
    return {z: count // divisor for z, count in amounts.items()}


def _at(value: object, path: str) -> object:
    for key in path.split("."):
        value = _dict(value).get(key)
    return value


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _client(settings: dict, flaw: Callable[[dict], str | None]) -> "OptimadeClient":
    try:
        from optimade.client import OptimadeClient
        from optimade.exceptions import BadRequest
        from optimade.filterparser import LarkParser
    except ImportError as error:
        raise ValueError(
            f"database.sources: '{settings['name']}' needs optimade-python-tools ({shown(str(error))}): "
            ".venv/bin/pip install 'optimade[http-client]>=1.5'"
        ) from error

    base = _base(settings["url"])
    try:
        LarkParser().parse(settings.get("filter") or "")
    except BadRequest as error:
        said = " ".join(str(error.detail).split())[:MAX_REASON]
        raise ValueError(f"database.sources: filter '{settings['filter']}' is no OPTIMADE filter: {said}") from None
    return OptimadeClient(
        base,
        max_results_per_provider=sys.maxsize,
        http_timeout=settings.get("timeout_s", TIMEOUT_S),
        use_async=False,
        silent=True,
        http_client=patient_session(base, flaw),
    )


def _base(url: str) -> str:
    """The base URL without the version, which the client adds."""
    parts = urlsplit(url)
    if parts.username is not None or parts.query:  # might be a key: not shown
        raise ValueError("database.sources: url holds a user name or a query; an OPTIMADE base URL has neither")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"database.sources: url '{url}' is no web address; give the provider's OPTIMADE base URL")
    return re.sub(r"(/v\d+(\.\d+)*)?(/structures)?/*$", "", url)


def _columns(settings: dict) -> dict[str, tuple[str, float]]:
    """{target: (path of the property, factor to our unit)}."""
    columns = settings.get("columns", {})
    return {name: (columns[name]["column"], factor) for name, factor in unit_factors(columns).items()}


def _properties(settings: dict) -> set[str]:
    return {path.split(".")[0] for path, _ in _columns(settings).values()}


def _fields(settings: dict) -> str:
    return ",".join([*_STRUCTURE, *sorted(_properties(settings))])


def _ask(client: "OptimadeClient", settings: dict, endpoint: str, url: str | None = None) -> "QueryResults":
    """One answer: of the endpoint, or of a link that a page gave."""
    structures = endpoint == "structures"
    answers = client.get_one(
        endpoint,
        quote(settings.get("filter") or "") if structures else "",
        client.base_urls[0],
        response_fields=[quote(_fields(settings), safe=",")] if structures else None,
        page_limit=settings.get("page_limit") if structures else None,
        paginate=False,
        override_url=url,
    )
    (answer,) = answers.values()
    if answer.errors:  # the client turns whatever its session raises into text
        raise ValueError(as_text(answer.errors[0]).removeprefix("ValueError: "))
    return answer


def _check_columns(settings: dict, records: list[dict]) -> None:
    """A property that no record of the first page has must at least be one of those that the provider lists."""
    missing = {
        name
        for name in _properties(settings)
        if all(_dict(record.get("attributes")).get(name) is None for record in records)
    }
    if records and missing:
        info = _ask(_client(settings, _flaw), settings, "info/structures")
        listed = _dict(_dict(info.data).get("properties"))
        unknown = sorted(missing - listed.keys())
        own = [name for name in sorted(listed) if name.startswith("_")]
        if unknown and own:
            raise ValueError(
                f"database.sources: columns: {settings['url']} has no property {unknown}; its own are {own[:50]}"
            )


def _next(link: object, asked: str, settings: dict) -> str:
    """The link as a URL of the host that was asked, with the fields that some servers leave out of it."""
    link = link.get("href") if isinstance(link, dict) else link
    if not link:
        return _END
    url = urlsplit(urljoin(asked, link))
    if not same_host(asked, url.geturl()):
        raise ValueError(f"{shown(asked)}: its link to the next page leads to another host, {shown(url.geturl())}")
    query = url.query
    if "response_fields" not in dict(parse_qsl(query)):
        query += "&" * bool(query) + urlencode({"response_fields": _fields(settings)})
    scheme = "https" if asked.startswith("https:") else url.scheme  # behind a relay a server may not know of https
    return url._replace(scheme=scheme, query=query).geturl()


def _flaw(answer: dict) -> str | None:
    """What is wrong with an answer and may pass."""
    if answer.get("errors"):
        return f"the answer holds errors, {answer['errors']}"
    if not all(isinstance(answer.get(name, {}), dict) for name in ("links", "meta")):
        return "links or meta of the answer are no JSON objects"
    return None


def _page_flaw(answer: dict) -> str | None:
    """What is wrong with a page and may pass: one that is not whole must not end the list."""
    data, link = answer.get("data"), _dict(answer.get("links")).get("next")
    if not (isinstance(data, list) and all(isinstance(_dict(entry).get("id"), str | int) for entry in data)):
        return "the data of the answer are no list of objects with an id"
    link = link.get("href") if isinstance(link, dict) else link
    if not isinstance(link, str | None):
        return "the link to the next page is no text"
    if link and not data:
        return "the page is empty, yet another is to follow"
    if not link and _dict(answer.get("meta")).get("more_data_available") is True:
        return "more is to follow, but no link leads there"
    return _flaw(answer)
