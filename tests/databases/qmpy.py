"""The tables of an OQMD dump that we read, as qmpy's models make them, and crystals to fill them with."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.databases.mariadb import MariaDB

TABLES = {
    "compositions": """formula varchar(255) NOT NULL, generic varchar(255), ntypes int, mass double, meidema double,
        structure_id int, element_list varchar(255), PRIMARY KEY (formula)""",
    "entries": """id int NOT NULL AUTO_INCREMENT, path varchar(255) NOT NULL, label varchar(20), duplicate_of_id int,
        delta_e double, stability double, composition_id varchar(255), reference_id int, prototype_id varchar(63),
        ntypes int, natoms int, PRIMARY KEY (id), UNIQUE KEY (path), KEY (duplicate_of_id), KEY (composition_id),
        FOREIGN KEY (composition_id) REFERENCES compositions (formula),
        FOREIGN KEY (duplicate_of_id) REFERENCES entries (id)""",
    "structures": """id int NOT NULL AUTO_INCREMENT, entry_id int, reference_id int, label varchar(63),
        prototype_id varchar(63), measured tinyint(1) NOT NULL, composition_id varchar(255), natoms int, nsites int,
        ntypes int, x1 double NOT NULL, x2 double NOT NULL, x3 double NOT NULL, y1 double NOT NULL, y2 double NOT NULL,
        y3 double NOT NULL, z1 double NOT NULL, z2 double NOT NULL, z3 double NOT NULL, sxx double NOT NULL,
        syy double NOT NULL, szz double NOT NULL, sxy double NOT NULL, syz double NOT NULL, szx double NOT NULL,
        spacegroup_id int, energy double, energy_pa double, magmom double, magmom_pa double, delta_e double,
        meta_stability double, fit_id varchar(255), volume float, volume_pa float, coords longtext, PRIMARY KEY (id),
        KEY (entry_id), KEY (composition_id), KEY (spacegroup_id), KEY (fit_id),
        FOREIGN KEY (entry_id) REFERENCES entries (id)""",
    "atoms": """id int NOT NULL AUTO_INCREMENT, structure_id int, site_id int, element_id varchar(9), ox int,
        x double NOT NULL, y double NOT NULL, z double NOT NULL, fx double, fy double, fz double, magmom double,
        charge double, volume double, occupancy double NOT NULL, wyckoff_id int, PRIMARY KEY (id), KEY (structure_id),
        KEY (site_id), KEY (element_id), KEY (wyckoff_id), FOREIGN KEY (structure_id) REFERENCES structures (id)""",
    "calculations": """id int NOT NULL AUTO_INCREMENT, configuration varchar(15), label varchar(63) NOT NULL,
        entry_id int, path varchar(255), composition_id varchar(255), natoms int, input_id int, settings longtext,
        output_id int, energy double, energy_pa double, magmom double, magmom_pa double, dos_id int, band_gap double,
        irreducible_kpoints double, attempt int, nsteps int, converged tinyint(1), runtime double, PRIMARY KEY (id),
        KEY (configuration), KEY (entry_id), KEY (path), KEY (input_id), KEY (output_id), KEY (dos_id),
        FOREIGN KEY (entry_id) REFERENCES entries (id), FOREIGN KEY (output_id) REFERENCES structures (id)""",
    "formation_energies": """id int NOT NULL AUTO_INCREMENT, composition_id varchar(255), entry_id int,
        calculation_id int, description varchar(20), fit_id varchar(255), stability double, delta_e double,
        PRIMARY KEY (id), KEY (composition_id), KEY (entry_id), KEY (calculation_id), KEY (fit_id),
        FOREIGN KEY (entry_id) REFERENCES entries (id),
        FOREIGN KEY (calculation_id) REFERENCES calculations (id)""",
}

# What the tests write; the rest stays null, 0 or empty.
COLUMNS = {
    "compositions": "formula ntypes",
    "entries": "id path duplicate_of_id composition_id natoms",
    "structures": "id entry_id label composition_id natoms x1 x2 x3 y1 y2 y3 z1 z2 z3",
    "atoms": "structure_id element_id x y z fx fy fz charge occupancy",
    "calculations": "id label entry_id path composition_id natoms settings output_id energy_pa band_gap converged",
    "formation_energies": "composition_id entry_id calculation_id fit_id stability delta_e",
}

# As long as qmpy's dictionaries of VASP settings are: they fill the pages that a query has to read.
SETTINGS = str(dict.fromkeys("encut lcharg nbands ismear ediff nsw nelmin istart prec pstress lreal".split(), 0.5)) * 4


@dataclass(frozen=True)
class Crystal:
    """One entry, its lowest formation energy, and the structure that this belongs to; None is NULL."""

    id: int
    lattice: np.ndarray
    symbols: list[str]
    fractional: np.ndarray
    delta_e: float
    stability: float | None
    band_gap: float | None
    occupancy: float = 1.0
    duplicate_of: int | None = None
    converged: int = 1

    @property
    def composition(self) -> str:
        """As qmpy writes it: ``Ca1 O3 Ti1``."""
        counts = {symbol: self.symbols.count(symbol) for symbol in sorted(set(self.symbols))}
        divisor = np.gcd.reduce(list(counts.values()))
        return " ".join(f"{symbol}{count // divisor}" for symbol, count in counts.items())


def create(server: MariaDB, database: str) -> None:
    """The database with its tables, empty."""
    with server.admin() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database}")
        cursor.execute(f"USE {database}")
        for name, columns in TABLES.items():
            cursor.execute(f"CREATE TABLE {name} ({columns}) ENGINE=InnoDB DEFAULT CHARSET=latin1")


def insert(server: MariaDB, database: str, crystals: Iterable[Crystal], folder: Path) -> None:
    """Fill the tables in bulk. Every crystal has two calculations: ``fine_relax`` without a formation energy, and
    ``static``. Each fifth entry has a second, higher energy of the fit ``standard``, and all have a lower one of
    another fit: both belong to the relaxation.

    Args:
        server, database: Where :func:`create` made the tables.
        crystals: What to insert.
        folder: For the files that the server loads.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.tsv").open("w")) for name in TABLES}

        def write(table: str, *values) -> None:
            files[table].write("\t".join(r"\N" if value is None else str(value) for value in values) + "\n")

        for crystal in crystals:
            id_, n, formula = crystal.id, len(crystal.symbols), crystal.composition
            path = f"/home/oqmd/libraries/icsd/{id_}"
            write("compositions", formula, len(set(crystal.symbols)))
            write("entries", id_, path, crystal.duplicate_of, formula, n)
            for place, (label, scale) in enumerate((("fine_relax", 1.01), ("static", 1.0))):
                lattice = (crystal.lattice * scale).ravel().tolist()
                key = 2 * id_ + place
                write("structures", key, id_, label, formula, n, *lattice)
                settings, gap = SETTINGS, crystal.band_gap if place else None
                write("calculations", key, label, id_, path, formula, n, settings, key, -1.0, gap, crystal.converged)
            for symbol, xyz in zip(crystal.symbols, crystal.fractional.tolist(), strict=True):
                write("atoms", 2 * id_ + 1, symbol, *xyz, 0.001, -0.002, 0.003, 5.109, crystal.occupancy)
            if id_ % 5 == 0:
                write("formation_energies", formula, id_, 2 * id_, "standard", 9.0, crystal.delta_e + 0.5)
            write("formation_energies", formula, id_, 2 * id_ + 1, "standard", crystal.stability, crystal.delta_e)
            write("formation_energies", formula, id_, 2 * id_, "nothing", -9.0, crystal.delta_e - 1.0)
    with server.admin(database) as connection, connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0, unique_checks = 0")
        for name, columns in COLUMNS.items():
            file = folder / f"{name}.tsv"
            cursor.execute(
                f"LOAD DATA LOCAL INFILE %s IGNORE INTO TABLE {name} ({', '.join(columns.split())})", (file,)
            )
            file.unlink()


def random_crystals(n: int, seed: int) -> list[Crystal]:
    """Crystals with all 17 digits in every number, 1 to 20 sites on a shaken grid in a skewed cell."""
    rng = np.random.default_rng(seed)
    symbols = np.array("H Li C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn La Pb U".split())
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    crystals = []
    for place in range(n):
        sites = int(rng.integers(1, 21))
        chosen = rng.choice(symbols, size=int(rng.integers(1, 5)), replace=False)
        crystals.append(
            Crystal(
                id=1000 + 3 * place,  # with gaps
                lattice=np.diag(rng.uniform(6, 9, 3)) + rng.uniform(-0.5, 0.5, (3, 3)),
                symbols=rng.choice(chosen, sites).tolist(),
                fractional=rng.permutation(grid)[:sites] + rng.uniform(-0.03, 0.03, (sites, 3)),
                delta_e=float(rng.normal(-1, 1)),
                stability=None if place % 7 == 0 else float(rng.normal(0.1, 0.2)),
                band_gap=None if place % 11 == 0 else float(max(0.0, rng.normal(0, 2))),
            )
        )
    return crystals
