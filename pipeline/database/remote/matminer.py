"""matminer's data sets by name, kept in its data folder (``$MATMINER_DATA``) and read by it.

The download is ours: matminer's takes what a killed one left for the whole file.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.database.columns import Columns
from pipeline.database.records import Row, leads_into
from pipeline.database.remote import Page
from pipeline.provenance import file_digest

PAGE = 5000
TRIES = 5
WAIT_SECONDS = 2.0  # before the second try, doubled before each after it


def about(settings: dict) -> dict:
    """Provider, version, licence and citation of the data set, as matminer says them."""
    attributes = _attributes(settings["dataset"])
    return {
        "provider": f"matminer data set {settings['dataset']}",
        "version": attributes["hash"],
        "licence": None,  # matminer does not say; the paper may
        "citation": " ".join(str(attributes["reference"]).split()),
    }


def pages(settings: dict, cursor: int | None) -> Iterator[Page]:
    """Rows of the data set, 5,000 a page, from row ``cursor``; ``id`` is the row's number from 0.

    Raises:
        ValueError: An unknown data set or column, or it cannot be downloaded whole.
    """
    frame = _frame(settings["dataset"])
    named = Columns(settings["columns"]).wanted
    missing = sorted(name for name in named - {"id"} if not leads_into(name, frame.columns))
    if missing:
        raise ValueError(
            f"database.sources: '{settings['dataset']}' has no column {missing}, but {list(frame.columns)}"
        )
    wanted = [column for column in frame.columns if any(leads_into(name, [column]) for name in named)]
    for begin in range(cursor or 0, len(frame), PAGE):
        part = frame.iloc[begin : begin + PAGE]
        values = [[_plain(value) for value in part[name]] for name in wanted]
        records = [
            {"id": begin + i, **dict(zip(wanted, row, strict=True))} for i, row in enumerate(zip(*values, strict=True))
        ]
        yield Page(records, begin + len(part), len(frame))


def fill(row: Row, record: dict, settings: dict) -> None:
    """Set a row's fields from a record, by the config's ``columns``."""
    Columns({"id": "id", **settings["columns"]}).fill(row, record)


def _attributes(name: str) -> dict:
    from matminer.datasets import get_available_datasets
    from matminer.datasets.dataset_retrieval import get_dataset_attribute

    known = get_available_datasets(print_format=None)
    if name not in known:
        raise ValueError(f"database.sources: matminer has no data set '{name}'; one of {', '.join(known)}")
    return {key: get_dataset_attribute(name, key) for key in ("hash", "reference", "file_type", "url")}


def _frame(name: str):
    """The data set as pandas has it; what a cut download left is thrown away, and asked for again."""
    import requests
    from matminer import datasets

    attributes = _attributes(name)
    home = Path(os.environ.get("MATMINER_DATA") or Path(datasets.__file__).parent)
    path = home / f"{name}.{attributes['file_type']}"
    for attempt in range(TRIES):
        if path.exists() and file_digest(path) != attributes["hash"]:
            print(f"{path} is not whole and is fetched again", file=sys.stderr)
            path.unlink()
        try:
            if not path.exists():
                home.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.{os.getpid()}")
                with requests.get(attributes["url"], stream=True, timeout=60) as answer, partial.open("wb") as file:
                    answer.raise_for_status()
                    for chunk in answer.iter_content(1 << 20):
                        file.write(chunk)
                partial.replace(path)
            if file_digest(path) == attributes["hash"]:
                return datasets.load_dataset(name, data_home=str(home), download_if_missing=False)
            reason = "its SHA-256 is not that which matminer knows"
        except requests.RequestException as error:
            reason = str(error)
        if attempt < TRIES - 1:
            time.sleep(WAIT_SECONDS * 2**attempt)
    raise ValueError(f"database.sources: {attributes['url']} could not be fetched in {TRIES} tries: {reason}")


def _plain(value: object) -> object:
    """A value as JSON has it: structures as pymatgen's dict, numbers of numpy as Python's, NaN as null."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
