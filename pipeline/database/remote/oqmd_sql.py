"""OQMD's own SQL dump (qmpy's tables; Saal et al. 2013, doi:10.1007/s11837-013-0755-4) on a MariaDB or MySQL server.

A record is an entry that duplicates no other and has a formation energy of the fit ``standard``: the lowest of them, as
qmpy's ``Entry.energy``. Hull distance, band gap and structure come from the calculation that this energy is of. The
structure is the one that came out of it: energy and gap belong to the relaxed cell, and the dump leaves out the
structures that went in where they are the ICSD's.

``settings``: ``name``; ``url`` in SQLAlchemy's form, ``mysql+pymysql://USER@HOST/DATABASE`` or an environment variable
that holds it (``$OQMD_URL``); ``page_limit``, entries asked for at a time; ``timeout_s``, the longest wait for an
answer. A password stands in that variable or in ``OQMD_PASSWORD``, never in the config, which is kept with the data.
"""

import os
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES, parse_formula
from pipeline.database.records import MAX_REASON, Row, as_text, number
from pipeline.database.remote import CREDITS, Page, holds_password
from pipeline.text import visible

PASSWORD = "OQMD_PASSWORD"
# Of 15 atoms each, as in OQMD, a page takes some 10 MB of memory while it is read.
ENTRIES_PER_PAGE = 2000
# A server that crashed needs a minute to recover, a busy one to free a connection; together two minutes.
WAITS_SECONDS = (1, 2, 4, 8, 16, 32, 64)
# The first question finds a wrong address more often than a server that is about to start.
FIRST_WAITS_SECONDS = (1, 2)
CONNECT_SECONDS = 10
ANSWER_SECONDS = 600  # counting the entries of the largest dump on a slow disk takes minutes
# qmpy writes 1, or the shares of a disordered site.
FULL_OCCUPANCY = 1e-3

# What may pass: cut and killed connections, a server that starts, stops or is full, locks, time limits of the server.
# Codes 1000-1999 and above 3000 are the server's, 2000-2999 the client's:
# https://mariadb.com/kb/en/mariadb-error-code-reference/, https://dev.mysql.com/doc/mysql-errors/8.0/en/
_PASSING = {0, 1040, 1053, 1077, 1079, 1080, 1152, *range(1154, 1162), 1184, 1203, 1205, 1213, 1226, 1317, 1927, 1969}
_PASSING |= {2002, 2003, 2006, 2012, 2013, 2014, 2026, 2027, 2045, 2055, 3024, 4031}
_MENDS = {
    **dict.fromkeys((1045, 1698), f"check the user, and set the password in the environment variable {PASSWORD}"),
    **dict.fromkeys((1044, 1142, 1143), "let the user read it: GRANT SELECT ON <database>.* TO <user>"),
    1049: "load the dump first, or write the name that you loaded it under",
    **dict.fromkeys((2002, 2003, 2013), "check host and port, and that the server runs"),
}

# The columns that we read; qmpy 1.0 to 1.6 differ in others.
_COLUMNS = {
    "entries": ("id", "duplicate_of_id", "composition_id"),
    "formation_energies": ("id", "entry_id", "calculation_id", "fit_id", "delta_e", "stability"),
    "calculations": ("id", "label", "converged", "band_gap", "output_id"),
    "structures": ("id", "natoms", "x1", "x2", "x3", "y1", "y2", "y3", "z1", "z2", "z3"),
    "atoms": ("id", "structure_id", "element_id", "x", "y", "z", "occupancy"),
}
# qmpy lets an entry that is no duplicate point to itself, older versions to nothing.
_ORIGINAL = "(duplicate_of_id IS NULL OR duplicate_of_id = entries.id)"
_ENERGY = "fit_id = 'standard' AND delta_e IS NOT NULL"
_SCHEMA = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name IN :tables"""
_COUNT = f"""
    SELECT COUNT(*) FROM entries
    WHERE {_ORIGINAL} AND EXISTS (SELECT 1 FROM formation_energies WHERE entry_id = entries.id AND {_ENERGY})"""
# The order of the joins is fixed: from 2,000 entries along the keys, where an optimizer misled by its statistics would
# go through all energies of the fit for each page.
_ENTRIES = f"""
    SELECT STRAIGHT_JOIN entry.id, entry.composition_id, energy.id AS energy_id, energy.delta_e, energy.stability,
        calculation.id AS calculation_id, calculation.label, calculation.converged, calculation.band_gap,
        structure.id AS structure_id, structure.natoms, x1, x2, x3, y1, y2, y3, z1, z2, z3
    FROM (SELECT id, composition_id FROM entries WHERE id > :after AND {_ORIGINAL} ORDER BY id LIMIT :size) AS entry
    LEFT JOIN formation_energies AS energy ON energy.entry_id = entry.id AND {_ENERGY}
    LEFT JOIN calculations AS calculation ON calculation.id = energy.calculation_id
    LEFT JOIN structures AS structure ON structure.id = calculation.output_id
    ORDER BY entry.id, energy.delta_e, energy.id"""
# One text a structure, as rows of their own take the client three times as long. An atom of no element has four fields.
_ATOMS = """
    SELECT structure_id, GROUP_CONCAT(CONCAT_WS(' ', element_id, x, y, z, occupancy) ORDER BY id SEPARATOR ';')
    FROM atoms WHERE structure_id IN :structures GROUP BY structure_id"""
_WHOLE_TEXTS = "SET SESSION group_concat_max_len = 16777216"  # 200,000 atoms; 1024 characters by default in MySQL
_LATTICE = ("x1", "x2", "x3", "y1", "y2", "y3", "z1", "z2", "z3")


def about(settings: dict) -> dict:
    """Whose data these are, and how many. A dump does not say which version it is; its database's name may.

    Raises:
        ValueError: As :func:`pages`.
    """
    server = _Server(settings)
    server.require_tables()
    return {
        "provider": "OQMD",
        "version": None,
        "licence": CREDITS["oqmd"][0],
        "citation": CREDITS["oqmd"][1],
        "database": server.database,
        "server": server.ask("SELECT VERSION()")[0][0],
        "table_rows": {
            name: server.ask(f"SELECT COUNT(*) FROM {name}")[0][0] for name in ("entries", "formation_energies")
        },
    }


def pages(settings: dict, cursor: int | None) -> Iterator[Page]:
    """The records by ascending entry id; a page's cursor is the last id that it looked at.

    Raises:
        ValueError: The server does not answer, refuses us, or holds no whole dump.
    """
    server = _Server(settings)
    server.require_tables()
    total = server.ask(_COUNT)[0][0]
    if total == 0:
        raise ValueError(f"{server.place}: no entry has a formation energy of the fit 'standard'; load the whole dump")
    after = -1 if cursor is None else cursor
    size = settings.get("page_limit", ENTRIES_PER_PAGE)
    while rows := server.ask(_ENTRIES, after=after, size=size):
        after = rows[-1].id
        lowest = (next(group) for _, group in groupby(rows, itemgetter(0)))
        records = [_record(row) for row in lowest if row.energy_id is not None]
        structures = [record["structure_id"] for record in records if record["structure_id"] is not None]
        atoms = dict(map(tuple, server.ask(_ATOMS, structures=structures))) if structures else {}
        for record in records:
            record["atoms"] = atoms.get(record["structure_id"], "")
        yield Page(records, after, total)


def _record(row) -> dict:
    record = row._asdict()
    record["lattice"] = [record.pop(name) for name in _LATTICE]
    return record


def fill(row: Row, record: dict, settings: dict) -> None:
    """Set the row's id, targets, composition and cell.

    The composition is that of the structure, or the entry's own where its calculation has none. Energies are in
    eV/atom, the gap in eV. OQMD's stability is negative below the hull of all other phases, so that the energy above
    the hull is 0 there, as OQMD's own interfaces give it.
    """
    identifier = as_text(record.get("id"))
    if not row.name(identifier and f"oqmd-{identifier}", "'id'"):
        return
    try:
        energy, stability = number(record["delta_e"], "delta_e"), number(record["stability"], "stability")
        above_hull = None if stability is None else max(stability, 0.0)
        gap = number(record["band_gap"], "band_gap")
        row.targets = {
            name: value
            for name, value in (
                ("formation_energy_ev_per_atom", energy),
                ("energy_above_hull_ev_per_atom", above_hull),
                ("band_gap_ev", gap),
            )
            if value is not None
        }
        if record["calculation_id"] is not None and not record["converged"]:
            raise ValueError(f"calculation {record['calculation_id']} ({record['label']}) did not converge")
        if record["structure_id"] is None:
            row.amounts = parse_formula(as_text(record["composition_id"]))
        else:
            row.cell = _cell(record)
    except ValueError as error:
        row.reason = visible(str(error)[:MAX_REASON])
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        row.reason = visible(f"the record is damaged: {type(error).__name__} {error}"[:MAX_REASON])


def _cell(record: dict) -> Cell:
    """The cell of a record that has a structure; a ``ValueError`` says what it lacks."""
    atoms = [atom.split() for atom in record["atoms"].split(";") if atom]
    if not atoms or record["natoms"] not in (None, len(atoms)):  # null where qmpy was too old to count them
        raise ValueError(f"structure {record['structure_id']} has {len(atoms)} atoms of {record['natoms']}")
    if any(len(atom) != 5 for atom in atoms):
        raise ValueError(f"structure {record['structure_id']} has an atom of no element")
    symbols, *numbers = zip(*atoms, strict=True)
    x, y, z, occupancies = np.array(numbers, dtype=float)
    if (np.abs(occupancies - 1) > FULL_OCCUPANCY).any():
        raise ValueError(f"partial occupancies: {min(occupancies):.3g} at the least")
    if unknown := {ISOTOPES.get(symbol, symbol) for symbol in symbols} - ATOMIC_NUMBERS.keys():
        raise ValueError(f"{sorted(unknown)} are no elements")
    elements = [ATOMIC_NUMBERS[ISOTOPES.get(symbol, symbol)] for symbol in symbols]
    lattice = np.array(record["lattice"], dtype=float).reshape(3, 3)
    return Cell(lattice, np.array(elements, dtype=np.uint8), np.column_stack([x, y, z]))


class _Server:
    """The server that the settings name, over one connection, which a fault ends."""

    def __init__(self, settings: dict) -> None:
        import sqlalchemy

        url = _url(settings)
        self._password, self.database = url.password, url.database
        self.place = f"database.sources: {settings['name']}: {url.set(query={}).render_as_string()}"
        self._engine = sqlalchemy.create_engine(
            url,
            pool_size=1,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "init_command": _WHOLE_TEXTS,
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": settings.get("timeout_s", ANSWER_SECONDS),
            },
        )
        self._waits = FIRST_WAITS_SECONDS

    def ask(self, sql: str, **values) -> list:
        """All rows of the answer; lists among the values become those of an ``IN``.

        Raises:
            ValueError: The server refuses, or does not answer however often it is asked.
        """
        import sqlalchemy

        lists = [
            sqlalchemy.bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
        ]
        statement = sqlalchemy.text(sql).bindparams(*lists)
        waits = iter(self._waits)
        while True:
            try:
                with self._engine.connect() as connection:
                    rows = connection.execute(statement, values).all()
            except MemoryError:
                raise
            except Exception as error:  # what the driver makes of a cut or foreign answer takes many forms
                self._engine.dispose()
                code, said = self._fault(error)
                wait = next(waits, None) if code in _PASSING else None
                if wait is None:
                    mend = f"; {_MENDS[code]}" if code in _MENDS else ""
                    raise ValueError(f"{self.place}: {said}{mend}") from error
                print(f"{self.place}: {said}; again in {wait} s", file=sys.stderr)
                time.sleep(wait)
            else:
                self._waits = WAITS_SECONDS
                return rows

    def _fault(self, error: Exception) -> tuple[int | None, str]:
        """The server's or the client's code, 0 for an answer that is none, None for a mistake before one is sent."""
        said = getattr(error, "orig", None)
        if said is not None and said.args and isinstance(said.args[0], int):
            code, text = said.args[0], " ".join(map(str, said.args[1:]))
        else:
            code, text = None if isinstance(error, RuntimeError | TypeError) else 0, str(said or error)
        text = " ".join(text.split()) or "the connection was lost"
        if self._password:
            text = text.replace(self._password, "***")
        return code, visible(f"{text} (code {code})" if code else text)[:MAX_REASON]

    def require_tables(self) -> None:
        """Raise a ``ValueError`` that names what qmpy's tables have and these have not."""
        found: dict[str, set[str]] = {}
        for table, column in self.ask(_SCHEMA, tables=list(_COLUMNS)):
            found.setdefault(table, set()).add(column)
        for table, columns in _COLUMNS.items():
            if table not in found:
                raise ValueError(
                    f"{self.place}: no table '{table}' that this user may read; is this a whole OQMD dump?"
                )
            if missing := [column for column in columns if column not in found[table]]:
                raise ValueError(f"{self.place}: table '{table}' has no column {missing}; is this an OQMD dump?")


def _url(settings: dict):
    import sqlalchemy

    place = f"database.sources: {settings['name']}: url"
    if holds_password(settings["url"]):
        raise ValueError(f"{place} holds a password, which would be kept with the data; set {PASSWORD} instead")
    text = os.path.expandvars(settings["url"])
    if "$" in text and text == settings["url"]:
        raise ValueError(f"{place}: '{text}': this environment variable is not set")
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.SQLAlchemyError, ValueError):  # its message would show a password
        url = sqlalchemy.URL.create("none")
    known = url.get_backend_name() in {"mysql", "mariadb"} and (url.host or "unix_socket" in url.query) and url.database
    if not known or "@" in f"{url.host}{url.database}":  # the end of a password that holds one
        raise ValueError(
            f"{place} is no address of a MariaDB or MySQL database; write mysql+pymysql://USER@HOST/DATABASE, "
            "with '@', ':' and '/' in a name or password as %40, %3A and %2F"
        )
    # mysql+pymysql speaks to MariaDB too; a bare mysql:// would ask for another driver.
    return url.set(drivername="mysql+pymysql", password=url.password or os.environ.get(PASSWORD))
