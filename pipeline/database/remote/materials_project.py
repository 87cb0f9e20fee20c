"""The Materials Project by its own client, mp-api, with the user's key from ``$MP_API_KEY``.

The ids of the query come first, then their documents by the thousand: so a fetch that is killed goes on after the ids
that it has, and only the fields that are read are asked for.
"""

import os
import time
from collections.abc import Callable, Iterator
from inspect import signature

from pipeline.database.columns import Columns
from pipeline.database.records import Row
from pipeline.database.remote import CREDITS, Page

COLUMNS = Columns(
    {
        "id": "material_id",
        "formula": "formula_pretty",
        "structure": "structure",
        "formation_energy_ev_per_atom": {"column": "formation_energy_per_atom", "unit": "eV/atom"},
        "energy_above_hull_ev_per_atom": {"column": "energy_above_hull", "unit": "eV/atom"},
        "band_gap_ev": {"column": "band_gap", "unit": "eV"},
    }
)
FIELDS = sorted(COLUMNS.wanted)
PAGE = 1000
TRIES = 6
WAIT_SECONDS = 2.0  # before the second try, doubled before each after it
KEY = "MP_API_KEY"
_OURS = {"fields", "all_fields", "num_chunks", "chunk_size", "kwargs"}  # of the search, how and not what it asks


def about(settings: dict) -> dict:
    """Provider, version of the database, licence and citation."""
    with _client(settings) as client:
        version = client.db_version
    return {
        "provider": "Materials Project",
        "version": version,
        "licence": CREDITS["mp"][0],
        "citation": CREDITS["mp"][1],
    }


def pages(settings: dict, cursor: str | None) -> Iterator[Page]:
    """Documents of the query, 1,000 a page in the order of their ids, after the id ``cursor``.

    Raises:
        ValueError: There is no key, it is refused, or the server does not answer.
    """
    with _client(settings) as client:
        criteria = {"deprecated": False, **settings.get("criteria", {})}
        search = _patient(lambda: client.materials.summary.search)
        unknown = sorted(criteria.keys() - (signature(search).parameters.keys() - _OURS))
        if unknown:
            raise ValueError(f"database.sources: '{settings['name']}': criteria {unknown} are none of mp-api's search")
        try:
            found = _patient(lambda: search(fields=["material_id"], **criteria))
        except (TypeError, AttributeError, LookupError) as error:
            raise ValueError(
                f"database.sources: '{settings['name']}': mp-api cannot make sense of criteria {criteria}: {error}"
            ) from error
        ids = sorted({str(document["material_id"]) for document in found})
        begin = 0 if cursor is None else next((i for i, name in enumerate(ids) if name > cursor), len(ids))
        for i in range(begin, len(ids), PAGE):
            part = ids[i : i + PAGE]
            documents = _patient(lambda part=part: search(material_ids=part, fields=FIELDS))
            records = [_plain(document) for document in documents]
            came = {record["material_id"] for record in records}
            if came != set(part):
                raise ValueError(
                    f"database.sources: the Materials Project sent {len(came)} of {len(part)} documents asked for by "
                    f"id, without {min(set(part) - came, default='any of them missing')}; run again later"
                )
            yield Page([{"id": record["material_id"], **record} for record in records], part[-1], len(ids))


def fill(row: Row, record: dict, settings: dict) -> None:
    """Set a row's fields from a document, by ``COLUMNS``."""
    COLUMNS.fill(row, record)


def _client(settings: dict):
    """mp-api's client; a wrong or missing key is a ``ValueError`` that does not show it."""
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise ValueError(
            f"database.sources: '{settings['name']}' needs mp-api ({error}): .venv/bin/pip install 'mp-api>=0.46'"
        ) from None
    if not os.environ.get(KEY):
        raise ValueError(
            f"database.sources: '{settings['name']}': {KEY} is not set; export the key that your account at "
            "materialsproject.org shows"
        )
    return _patient(
        lambda: MPRester(
            os.environ[KEY], endpoint=settings.get("url"), use_document_model=False, mute_progress_bars=True
        )
    )


def _patient(ask: Callable):
    """Ask again, later and later, for what may pass; the key is cut out of every message."""
    import requests
    from mp_api.client.core.exceptions import MPRestError

    for attempt in range(TRIES):
        try:
            return ask()
        except (MPRestError, requests.RequestException, ValueError) as error:
            said = " ".join(str(error).split()).replace(os.environ[KEY], "KEY")[:300]
            if any(text in said.lower() for text in ("status code 401", "status code 403", "api key")):
                raise ValueError(f"database.sources: the Materials Project refuses {KEY}: {said}") from None
        if attempt < TRIES - 1:
            time.sleep(WAIT_SECONDS * 2**attempt)
    raise ValueError(f"database.sources: the Materials Project did not answer in {TRIES} tries: {said}") from None


def _plain(document) -> dict:
    """A document as JSON: the structure as pymatgen's dict."""
    values = {name: document.get(name) for name in FIELDS}
    return {name: value.as_dict() if hasattr(value, "as_dict") else _text(value) for name, value in values.items()}


def _text(value: object) -> object:
    return value if value is None or isinstance(value, int | float | dict) else str(value)
