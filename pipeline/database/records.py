"""What a source hands over: a :class:`Row` each, and the records of CSV, JSON lines and Parquet files, within limits.

Whatever a file holds, memory stays bounded and what cannot be read costs its own row; a file that cannot be read as a
whole is a ``ValueError`` that names it.
"""

import csv
import gzip
import io
import json
import lzma
import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cells import Cell
from pipeline.text import visible

# One line of a table, or one structure file: a crystal of 2,000 sites takes 0.2 MB.
MAX_RECORD = 1 << 22
# A packed file may grow to 128 MiB, and beyond that to 200 times its size; databases pack 3 to 50 times, bombs 1000.
FREE_UNPACKED = 1 << 27
MAX_UNPACKED_RATIO = 200
MAX_ID_LENGTH = 200
MAX_FIELD = 1000
MAX_REASON = 300
MAX_COLUMNS_NAMED = 50
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
MISSING = {"", "nan", "na", "n/a", "none", "null"}


@dataclass(slots=True)
class Row:
    """One row of a source; ``reason`` is set when it could not be read.

    Attributes:
        amounts: {atomic number: atoms}, not yet reduced.
        targets: {column of TARGETS: value}, absent where the source has none.
    """

    file: str
    line: int | None
    id: str | None = None
    amounts: dict[int, int] | None = None
    targets: dict[str, float] = field(default_factory=dict)
    cell: Cell | None = None
    reason: str | None = None

    def name(self, identifier: str, place: str) -> bool:
        """Set the id, or the reason why it cannot be one; ``place`` says where it stood."""
        if 0 < len(identifier) <= MAX_ID_LENGTH and identifier.isprintable():
            self.id = identifier
            return True
        if not identifier:
            self.reason = f"{place} is empty"
        elif len(identifier) > MAX_ID_LENGTH:
            self.reason = f"{place} has {len(identifier)} characters, {MAX_ID_LENGTH} can be read"
        else:  # it would steer the terminal or the table that shows it
            self.reason = f"{place} holds characters that cannot be printed: {visible(identifier)}"
        self.id = visible(identifier[:MAX_ID_LENGTH])
        return False


def as_text(value: object) -> str:
    """The value as text, "" where there is none; what UTF-8 cannot hold becomes "?"."""
    text = "" if value is None else str(value)
    if not text.isascii() and len(text) <= MAX_FIELD:  # a longer one is refused, and many rows may share it
        text = text.encode(errors="replace").decode()
    return text.strip()


def number(value: object, name: str, factor: float = 1.0) -> float | None:
    """The value times the factor, None where there is none; what is no finite number raises a ``ValueError``."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        number = float(value) * factor
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column '{name}': {as_text(value)[:50]!r} is no number") from None
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"column '{name}': {as_text(value)[:50]!r} is not finite")
    return number


class UnpacksToTooMuch(ValueError):
    """A packed file that gives more than its size lets expect."""


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a file, at most as many as the limits above allow.

    Args:
        path: The file.
        opener: ``open`` or one like ``gzip.open``.

    Raises:
        UnpacksToTooMuch: While reading, beyond the limit.
    """

    def __init__(self, path: Path, opener: Callable = open) -> None:
        self._path, self._stream = path, opener(path, "rb")
        self._left = most_unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        n = self._stream.readinto(buffer)
        self._left -= n
        if self._left < 0:
            raise UnpacksToTooMuch(unpacks_to_too_much(self._path))
        return n

    def close(self) -> None:
        self._stream.close()
        super().close()


def most_unpacked(path: Path) -> int:
    """Bytes that a packed file may give."""
    return max(FREE_UNPACKED, MAX_UNPACKED_RATIO * path.stat().st_size)


def unpacks_to_too_much(path: Path) -> str:
    """What to tell the user of such a file."""
    return f"{path}: unpacks to more than {MAX_UNPACKED_RATIO} times its size; unpack it yourself if that is right"


class _Lines:
    """The lines of a text file, gzipped or not; one that is too long raises ``_LineTooLong``, the next follows.

    Attributes:
        number: Number of the line given last, from 1.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        opener = gzip.open if path.suffix.lower() == ".gz" else open
        binary = io.BufferedReader(Unpacked(path, opener), 1 << 16)
        self._text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="")

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.number += 1
        try:
            line = self._text.readline(MAX_RECORD)
            if len(line) < MAX_RECORD or line.endswith(("\n", "\r")):
                if line:
                    return line
                self._text.close()
                raise StopIteration
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(MAX_RECORD)
        except DAMAGED as error:
            raise ValueError(f"{self.path}: the file is damaged or cut short ({error})") from error
        raise _LineTooLong(f"the line has more than {MAX_RECORD} characters")


class _LineTooLong(Exception):
    pass


def records(path: Path, wanted: set[str]) -> Iterator[tuple[int, dict | str]]:
    """(line, record) of a CSV, JSON lines or Parquet file; a line that is no record comes as the reason instead.

    Raises:
        ValueError: The file is damaged as a whole, or lacks one of the columns ``wanted``.
    """
    kind = "".join(path.suffixes[-2:]).lower().removesuffix(".gz")
    if kind.endswith(".parquet"):
        return _parquet(path, sorted(wanted))
    if kind.endswith((".jsonl", ".ndjson")):
        return _json_lines(path, wanted)
    if kind.endswith((".json", ".json.zip")):
        return _json_array(path, wanted)
    if kind.endswith(".csv"):
        return _csv(path, sorted(wanted))
    raise ValueError(
        f"{path}: unknown kind of table; .csv, .jsonl, .ndjson, .json (.gz allowed), .json.zip, .parquet can be read"
    )


def is_litter(name: str) -> bool:
    """Whether the file is what macOS and Windows add to folders and archives."""
    *folders, file = name.split("/")
    return "__MACOSX" in folders or file.startswith("._") or file in {".DS_Store", "Thumbs.db", "desktop.ini"}


def leads_into(name: str, fields: Container[str]) -> bool:
    """Whether the fields hold that of this name or, for the dots in it, the object that it leads into."""
    return name in fields or name.split(".")[0] in fields


def _parquet(path: Path, wanted: list[str]) -> Iterator[tuple[int, dict]]:
    try:
        schema, metadata = pq.read_schema(path), pq.read_metadata(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({_first_line(error)})") from error
    _require_columns(path, wanted, schema.names)
    for name in wanted:
        if not any(holds(schema.field(name).type) for holds in (*_TEXT, *_FLAT)):
            raise ValueError(f"{path}: column '{name}' is {schema.field(name).type}; text or numbers can be read")
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if unpacked > most_unpacked(path):
        raise UnpacksToTooMuch(unpacks_to_too_much(path))
    # Text as dictionaries: one that many rows share stands in memory once.
    texts = [name for name in wanted if any(holds(schema.field(name).type) for holds in _TEXT)]
    line = 0
    try:
        for batch in pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True).iter_batches(
            columns=wanted
        ):
            for values in zip(*(_values(batch.column(name)) for name in wanted), strict=True):
                line += 1
                yield line, dict(zip(wanted, values, strict=True))
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: the file is damaged ({_first_line(error)})") from error


_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
_FLAT = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)


def _values(column: pa.Array) -> list:
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    texts = column.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in column.indices.to_pylist()]


def _json_lines(path: Path, wanted: set[str]) -> Iterator[tuple[int, dict | str]]:
    lines = _Lines(path)
    absent, seen = set(wanted), None
    while True:
        try:
            text = next(lines)
        except StopIteration:
            break
        except _LineTooLong as error:
            yield lines.number, f"no JSON: {error}"
            continue
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield lines.number, f"no JSON: {error}"
            continue
        if not isinstance(record, dict):
            yield lines.number, "no JSON object"
            continue
        seen = list(record) if seen is None else seen
        absent = {name for name in absent if not leads_into(name, record)}
        yield lines.number, record
    if seen is not None and absent:
        _require_columns(path, absent, seen)


def _json_array(path: Path, wanted: set[str]) -> Iterator[tuple[int, dict | str]]:
    """The objects of one JSON array, one after another; "line" is their number from 1."""
    opener = {".gz": gzip.open, ".zip": _only_member}.get(path.suffix.lower(), open)
    decoder, number, absent, seen = json.JSONDecoder(), 0, set(wanted), []
    try:
        with io.TextIOWrapper(io.BufferedReader(Unpacked(path, opener), 1 << 16), "utf-8-sig", "replace") as text:
            buffer = text.read(1 << 16).lstrip()
            if not buffer.startswith("["):
                raise ValueError(f"{path}: no JSON array of objects; one object a line goes by the name .jsonl")
            place = 1  # in the buffer, which may be large and is not cut for each small object
            while True:
                place = _BETWEEN.match(buffer, place).end()
                if buffer.startswith("]", place):
                    rest = buffer[place + 1 :].strip()
                    while not rest and (more := text.read(1 << 16)):  # up to the check sum at its end
                        rest = more.strip()
                    if rest:
                        raise ValueError(f"{path}: goes on after its array of {number} objects; one array can be read")
                    break
                try:
                    record, place = decoder.raw_decode(buffer, place)
                except (ValueError, RecursionError) as error:
                    buffer, place = buffer[place:], 0
                    more = "" if len(buffer) > 4 * MAX_RECORD else text.read(max(1 << 16, len(buffer)))
                    if not more:
                        raise ValueError(f"{path}: object {number + 1} of the array is not whole ({error})") from error
                    buffer += more
                    continue
                number += 1
                if not isinstance(record, dict):
                    yield number, "no JSON object"
                    continue
                seen = seen or list(record)
                absent = {name for name in absent if not leads_into(name, record)}
                yield number, record
    except DAMAGED as error:
        raise ValueError(f"{path}: the file is damaged or cut short ({error})") from error
    if seen and absent:
        _require_columns(path, absent, seen)


_BETWEEN = re.compile(r"[ \t\r\n,]*")


def _only_member(path: Path, mode: str) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    members = [member for member in archive.infolist() if not (member.is_dir() or is_litter(member.filename))]
    if len(members) != 1:
        raise ValueError(f"{path}: holds {len(members)} files; a zip of one JSON file can be read")
    try:
        return archive.open(members[0])
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way that Python does not know
        raise ValueError(f"{path}: cannot be unpacked ({error}); unpack it yourself") from None


def _csv(path: Path, wanted: list[str]) -> Iterator[tuple[int, dict | str]]:
    lines = _Lines(path)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
    except (_LineTooLong, csv.Error) as error:
        raise ValueError(f"{path}: the header is no CSV ({error})") from error
    if header is None:
        raise ValueError(f"{path}: the file is empty")
    _require_columns(path, wanted, header)
    places = [(name, header.index(name)) for name in wanted]
    while True:
        line = lines.number + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except (_LineTooLong, csv.Error) as error:
            if lines.number > line:  # many rows would be lost as one
                raise ValueError(f"{path}: a quote in line {line} is not closed as it should be; mend it") from error
            yield line, f"no CSV: {error}"
            continue
        if values and len(values) != len(header):
            yield line, f"{len(values)} fields where the header has {len(header)}"
        elif values:
            yield line, {name: values[place] for name, place in places}


def _require_columns(path: Path, wanted: Iterable[str], present: list[str]) -> None:
    missing = sorted(set(wanted) - set(present))
    if missing:
        shown = [name[:MAX_ID_LENGTH] for name in sorted(present)[:MAX_COLUMNS_NAMED]]
        more = f" and {len(present) - len(shown)} more" if len(present) > len(shown) else ""
        raise ValueError(f"{path}: no column {missing}; the file has {shown}{more}. Name yours in the source's columns")
    twice = sorted(name for name in wanted if present.count(name) > 1)
    if twice:
        raise ValueError(f"{path}: column {twice} stands twice in the header; rename one")


def _first_line(error: Exception) -> str:
    return visible((str(error).splitlines() or [type(error).__name__])[0])
