"""The one mechanism by which stages hand tables to each other: Parquet with a declared schema.

A stage declares each of its tables once, as a :class:`Table`; :func:`write` and :func:`read` hold data to it. Files
appear under their final name only when they are whole, and carry their provenance in the schema metadata.
"""

import glob
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

METADATA_KEY = b"kimberlite"
_UMASK = os.umask(0)
os.umask(_UMASK)


@dataclass(frozen=True)
class Table:
    """A declared table.

    Args:
        name: Name for error messages and metadata, e.g. ``"entries"``.
        fields: Columns in order. Units stand in the names; ``nullable=False`` is enforced on write and read.
    """

    name: str
    fields: tuple[pa.Field, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(self.fields)


def column(name: str, type_: pa.DataType, meaning: str, *, null: str | None = None) -> pa.Field:
    """Declare one column.

    Args:
        name: Column name, with its unit where it has one.
        type_: Arrow type.
        meaning: What a value says, kept in the file for whoever opens it without this code.
        null: What a missing value means; without it the column holds no nulls.
    """
    description = meaning if null is None else f"{meaning}; null: {null}"
    return pa.field(name, type_, nullable=null is not None, metadata={b"description": description.encode()})


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, moved onto it when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a process that was killed
        left.unlink(missing_ok=True)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # some writers keep their files from the group
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | os.PathLike, table: Table, data: pa.Table | dict, provenance: dict | None = None) -> None:
    """Write ``data`` to Parquet as ``table`` declares it, atomically.

    Raises:
        ValueError: A column is missing, unknown, of another type, or holds nulls where none are declared.
    """
    with atomic(path) as temporary, writer(temporary, table, provenance) as append:
        append(data)


@contextmanager
def writer(path: str | os.PathLike, table: Table, provenance: dict | None = None) -> Iterator:
    """Yield ``append(data)``, which checks and writes one batch of rows; for tables made piece by piece."""
    metadata = {METADATA_KEY: json.dumps({"table": table.name, **(provenance or {})}, sort_keys=True).encode()}
    schema = table.schema.with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as handle:

        def append(data: pa.Table | dict) -> None:
            handle.write_table(_conform(data, table).cast(schema), row_group_size=1 << 18)

        yield append


def read(
    path: str | os.PathLike,
    table: Table,
    columns: Iterable[str] | None = None,
    rows: pc.Expression | None = None,
) -> pa.Table:
    """Read a Parquet file and hold it to ``table``; ``columns`` and the condition ``rows`` narrow what is read.

    Raises:
        ValueError: The file is missing, damaged, or does not have the declared columns.
    """
    names = [field.name for field in table.fields] if columns is None else list(columns)
    try:
        about = pq.read_metadata(path)
        if about.num_rows != sum(about.row_group(i).num_rows for i in range(about.num_row_groups)):
            raise OSError("its footer tells two numbers of rows")  # the one part of a file without a check sum
        found = about.schema.to_arrow_schema()
        for name in names:
            declared = table.schema.field(name)
            if name not in found.names or found.field(name).type != declared.type:
                have = found.field(name).type if name in found.names else "absent"
                raise ValueError(
                    f"{path}: column '{name}' of table '{table.name}' is {have}, expected {declared.type}; "
                    "delete the file and rerun the stage that writes it"
                )
        data = pq.read_table(
            path, columns=names, filters=rows, partitioning=None, page_checksum_verification=True
        ).select(names)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the stage that writes table '{table.name}'") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: not a whole Parquet file ({reason}); delete it and rerun the stage that writes it"
        ) from error
    try:
        return _conform(data, Table(table.name, tuple(table.schema.field(name) for name in names)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; delete the file and rerun the stage that writes it") from None


def read_all(paths: Iterable[str | os.PathLike], table: Table, columns: Iterable[str] | None = None) -> pa.Table:
    """Read the partitions of one table, in the order given."""
    columns = None if columns is None else list(columns)
    return pa.concat_tables([read(path, table, columns) for path in paths])


def provenance(path: str | os.PathLike) -> dict:
    """The provenance that a table was written with."""
    return json.loads(pq.read_schema(path).metadata[METADATA_KEY])


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write JSON atomically, keys in the order given, NaN refused."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read JSON; a damaged file is named in the error."""
    try:
        return json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path}: not valid JSON ({error}); delete it and rerun the stage that writes it") from error


def _conform(data: pa.Table | dict, table: Table) -> pa.Table:
    schema = table.schema
    if isinstance(data, dict):
        order = [name for name in schema.names if name in data] + [name for name in data if name not in schema.names]
        types = {field.name: field.type for field in schema}
        arrow = (pa.Array, pa.ChunkedArray)
        data = pa.table(
            {n: data[n] if isinstance(data[n], arrow) else pa.array(data[n], type=types.get(n)) for n in order}
        )
    names = data.column_names
    if names != schema.names:
        missing = [name for name in schema.names if name not in names]
        unknown = [name for name in names if name not in schema.names]
        raise ValueError(f"table '{table.name}': columns missing {missing}, unknown {unknown}, or out of order")
    for field in schema:
        have = data.column(field.name)
        if have.type != field.type:
            raise ValueError(f"table '{table.name}': column '{field.name}' is {have.type}, declared {field.type}")
        if not field.nullable and have.null_count:
            raise ValueError(
                f"table '{table.name}': column '{field.name}' holds {have.null_count} nulls, none declared"
            )
    return data.cast(schema)
