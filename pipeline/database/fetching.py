"""Fetch a database from behind a network into a snapshot: one file, complete or not there.

A page that came is kept at once, so that a fetch that is killed goes on where it was. The snapshot holds the records as
they came; what is made of them is :mod:`pipeline.database.sources`' work and can change without asking again.
"""

import datetime
import gzip
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pipeline.database.remote import Page, asked, module_of
from pipeline.provenance import file_digest
from pipeline.tables import read_json, write_json


class Partial:
    """The records that have come so far, in a file that grows page by page.

    Args:
        folder: Holds the file and what is known of it, and nothing else.
        query: What was asked; records of another query are thrown away.

    Attributes:
        cursor: Of the last page, None if there is none yet.
        total: Records of the query as the server counted them last, None where it did not.
        ids: Of the records, so that one that comes twice is kept once.
    """

    def __init__(self, folder: Path, query: dict) -> None:
        self.folder, self.query = folder, query
        self.path, self._state = folder / "records.jsonl.gz", folder / "state.json"
        self.cursor: object = None
        self.total: int | None = None
        self.ids: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        if not self._restored():
            self._state.unlink(missing_ok=True)
            self.path.write_bytes(b"")

    def add(self, page: Page) -> int:
        """Keep a page; how many of its records were new."""
        new = []
        for record in page.records:
            identifier = str(record["id"])
            if identifier not in self.ids:
                self.ids.add(identifier)
                new.append(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
        self.cursor, self.total = page.cursor, page.total
        with self.path.open("ab") as file:
            if new:
                file.write(gzip.compress("".join(new).encode(errors="replace"), 1, mtime=0))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        write_json(self._state, {"query": self.query, "cursor": self.cursor, "total": self.total, "bytes": size})
        return len(new)

    def remove(self) -> None:
        """Delete all of it, and what else a file manager may have laid there."""
        shutil.rmtree(self.folder)

    def _restored(self) -> bool:
        try:
            state = read_json(self._state)
            cursor, total = state["cursor"], state["total"]
            if state["query"] != self.query or self.path.stat().st_size < state["bytes"]:
                return False
            os.truncate(self.path, state["bytes"])  # a page that was being written when the power went
            with gzip.open(self.path, "rt", encoding="utf-8") as lines:
                self.ids = {str(json.loads(line)["id"]) for line in lines}
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return False
        self.cursor, self.total = cursor, total
        return True


def fetch(*, source: dict, partial_path: str, snapshot_path: str, about_path: str) -> None:
    """Ask a database for all that ``source`` names.

    Args:
        source: One of the config's ``database.sources``.
        partial_path: Folder for what has come while the rest is missing; gone at the end.
        snapshot_path: Gets one JSON object a line, gzipped.
        about_path: Gets JSON: the source, who provides it, its licence, when it was asked, rows, SHA-256.

    Raises:
        ValueError: The database does not answer, or its answer is not complete.
    """
    module, name = module_of(source["kind"]), source["name"]
    partial = Partial(Path(partial_path), asked(source))
    if partial.ids:
        print(f"{name}: going on after {len(partial.ids)} records", file=sys.stderr)
    about = module.about(source)
    bar = tqdm(desc=f"fetching {name}", initial=len(partial.ids), unit=" records", file=sys.stderr, mininterval=2)
    twice = 0
    for page in _said_to_go_on(module.pages(source, partial.cursor), partial):
        n = partial.add(page)
        twice += len(page.records) - n
        bar.total = page.total
        bar.update(n)
    bar.close()
    n, total = len(partial.ids), partial.total
    if total is not None and n != total:
        partial.remove()
        raise ValueError(
            f"database.sources: '{name}': {n} different records came where the server counts {total}; it lost some or "
            "changed meanwhile. Nothing is kept; run again, which asks anew"
        )
    if n == 0:
        partial.remove()
        raise ValueError(f"database.sources: '{name}': the query has no records; loosen its filter")
    # Killed in here, it has the records still.
    write_json(
        about_path,
        {
            "source": asked(source),
            **about,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "rows": n,
            "sha256": file_digest(partial.path),
        },
    )
    Path(snapshot_path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial.path, snapshot_path)
    partial.remove()
    print(f"{name}: {n} records" + f", {twice} that came twice left out" * bool(twice), file=sys.stderr)


def _said_to_go_on(pages: Iterator[Page], partial: Partial) -> Iterator[Page]:
    try:
        yield from pages
    except ValueError as error:
        kept = f"{len(partial.ids)} records are kept; run again, which goes on after them"
        raise ValueError(f"{error} ({kept})" if partial.ids else str(error)) from error
