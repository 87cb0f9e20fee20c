"""Databases behind a network: one module each, named as ``kind`` in the config.

A module has

- ``about(settings) -> dict``: ``provider``, ``version`` (None where it does not say), ``licence``, ``citation``; it may
  ask the server.
- ``pages(settings, cursor) -> Iterator[Page]``: the query's records page by page, from the beginning (``cursor`` None)
  or after the page that had this cursor. It retries what may pass (time-outs, resets, cut answers, HTTP 429 and 5xx)
  with back-off, and raises a ``ValueError`` that names what it asked and what came when it gives up.
- ``fill(row, record, settings)``: sets a row's ``id``, ``targets`` and ``cell`` from one record (``amounts`` where it
  has no cell), or its ``reason``; it never raises for what a record holds. Whether a crystal can be so is seen later.

``settings`` is the source as the config has it. Records go into the snapshot as they came, so that what is made of them
can change without asking again.
"""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

REMOTE = ("optimade", "oqmd_sql", "materials_project", "matminer")
# {provider's OPTIMADE prefix: (licence, citation)}, as of November 2026; what a provider states goes before.
CREDITS = {
    "mp": ("CC BY 4.0; entries of the GNoME set CC BY-NC 4.0", "Jain et al. 2013, doi:10.1063/1.4812323"),
    "oqmd": (
        "CC BY 4.0",
        "Saal et al. 2013, doi:10.1007/s11837-013-0755-4; Kirklin et al. 2015, doi:10.1038/npjcompumats.2015.10",
    ),
    "alexandria": (
        "CC BY 4.0",
        "Schmidt et al. 2023, doi:10.1002/adma.202210788; Schmidt et al. 2022, doi:10.1038/s41597-022-01177-w",
    ),
    "nmd": ("CC BY 4.0", "Scheidgen et al. 2023, doi:10.21105/joss.05388"),
    "cod": ("CC0 1.0", "Gražulis et al. 2012, doi:10.1093/nar/gkr900"),
}
HOW = ("page_limit", "timeout_s")
SAID = ("reference", "licence", "citation")


class Page(NamedTuple):
    """A part of an answer.

    Attributes:
        records: JSON objects, each with an ``id``.
        cursor: JSON value that says where the rest begins.
        total: Records of the whole query as the server counts them now; None where it does not.
    """

    records: list[dict]
    cursor: object
    total: int | None


def asked(source: dict) -> dict:
    """What of a source's settings decides which records come; the rest can change without asking again."""
    return {key: value for key, value in source.items() if key not in (*HOW, *SAID, "snapshot")}


def beside(snapshot: str | Path) -> Path:
    """Where a snapshot's own account of itself lies."""
    return Path(f"{str(snapshot).removesuffix('.jsonl.gz')}.json")


def holds_password(url: str) -> bool:
    """Whether a password or key stands in the address itself, rather than in an environment variable that it names."""
    rest = url.partition("://")[2]
    return bool(re.search(r":[^$@][^@]*@|[?&](pass(word|wd)?|(api_?)?key|token|secret)=[^$]", rest, re.IGNORECASE))


def module_of(kind: str) -> ModuleType:
    """The module that speaks with databases of this kind."""
    return importlib.import_module(f"{__name__}.{kind}")
