"""Train the models in `resources/models/` from public tables of OQMD and the Materials Project.

    python -m pipeline.screening.train_shipped --data FOLDER [--only formation_energy_ev_per_atom]

FOLDER holds ``oqmd/oqmd.csv.gz`` (formula, formation_energy_per_atom), ``mp/mp.csv.gz`` (material_id, reduced_formula,
formation_energy_per_atom, band_gap) and ``mp/decomposition_energy.csv.gz`` (formula, decomposition_energy_per_atom).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.composition import Compositions
from pipeline.provenance import ROOT, file_digest
from pipeline.screening.labelled import Labelled, read_table
from pipeline.screening.models import BAND_GAP, DECOMPOSITION_ENERGY, FORMATION_ENERGY
from pipeline.screening.training import SIGMA, Training, fit

SEED = 20180904
TREES = {"max_trees": 800, "leaves": 63}  # as many as two million formulas can wait for
SETTINGS = Training(
    validation_share=0.05,
    test_share=0.05,
    learners={
        FORMATION_ENERGY: {"attention": {"epochs": 30, "members": 2}},
        DECOMPOSITION_ENERGY: {"attention": {"epochs": 20, "members": 2}, "boosted": TREES},
        BAND_GAP: {"attention": {"epochs": 20, "members": 2}, "boosted": TREES},
    },
    analogues=False,  # a known compound with its value is data, and no data are shipped
)
OQMD = """OQMD (Saal et al. 2013, doi:10.1007/s11837-013-0755-4; Kirklin et al. 2015,
doi:10.1038/npjcompumats.2015.10), CC BY 4.0: {rows} distinct reduced formulas with a DFT formation energy;
{dropped} more were left out as failed calculations (outside the mean +- {sigma} standard deviations; the worst is +43
eV/atom). Most are hypothetical intermetallics, so energies of salts, oxides and molecules rest on fewer rows."""
MP = """Materials Project (Jain et al. 2013, doi:10.1063/1.4812323; energies and gaps of 2018 to 2019), CC BY 4.0:
{rows} distinct reduced formulas, of polymorphs the one of lowest formation energy. PBE gaps, known to be too small;
0 for a metal."""
BARTEL = """Decomposition energies of the Materials Project's compounds, of each formula the lowest entry (Bartel et al.
2020, doi:10.1038/s41524-020-00362-y; data MIT, Materials Project CC BY 4.0): {rows} distinct reduced formulas.
Negative: stable, by so much below the hull of all other compounds."""
COMMON = """
The weights are a derived work under the same licence (CC BY 4.0): name the source when you use them.

Made with `python -m pipeline.screening.train_shipped --data FOLDER` from a table of SHA-256
`{digest}`.
Formulas that a campaign holds out may be among those that trained this model: it ranks candidates and does not reach
the generator."""


def oqmd_formation_energies(path: Path) -> tuple[Labelled, int]:
    """OQMD formation energies (eV/atom), failures outside mean +- 5 sigma left out, and the number of those."""
    frame = pd.read_csv(path).dropna(subset="formation_energy_per_atom")
    rows = _labelled(frame["formula"], frame["formula"], frame["formation_energy_per_atom"])
    good = rows.within(SIGMA)
    return good, len(rows) - len(good)


def mp_band_gaps(path: Path) -> tuple[Labelled, int]:
    """Materials Project gaps (eV), lowest formation energy of each reduced formula, elements included."""
    frame = pd.read_csv(path).dropna(subset="band_gap")
    rows = _labelled(frame["material_id"], frame["reduced_formula"], frame["band_gap"])
    return rows.lowest(frame["formation_energy_per_atom"].to_numpy()), 0


def mp_decomposition_energies(path: Path) -> tuple[Labelled, int]:
    """Decomposition energies (eV/atom), negative for stable compounds."""
    return read_table(path, value="decomposition_energy_per_atom"), 0


def _labelled(ids: pd.Series, formulas: pd.Series, values: pd.Series) -> Labelled:
    compositions = Compositions.from_formulas(formulas).reduced()
    return Labelled(ids.to_numpy(dtype=object), compositions, values.to_numpy(dtype=np.float64))


SOURCES = {
    FORMATION_ENERGY: ("formation_energy_oqmd", "oqmd/oqmd.csv.gz", oqmd_formation_energies, OQMD),
    DECOMPOSITION_ENERGY: (
        "decomposition_energy_mp",
        "mp/decomposition_energy.csv.gz",
        mp_decomposition_energies,
        BARTEL,
    ),
    BAND_GAP: ("band_gap_mp", "mp/mp.csv.gz", mp_band_gaps, MP),
}


def train(
    target: str,
    data: Path,
    models: Path,
    settings: Training = SETTINGS,
    threads: int = 1,
) -> dict:
    """Train one shipped model; returns its description.

    Raises:
        ValueError: The folder lacks the table.
    """
    name, file, read, card = SOURCES[target]
    path = data / file
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --data names a folder that holds {file}")
    rows, dropped = read(path)
    card = (card + COMMON).format(rows=len(rows), dropped=dropped, sigma=SIGMA, digest=file_digest(path))
    return fit(
        target,
        rows,
        models / name,
        settings,
        SEED,
        threads,
        source={"name": name, "card": card},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public tables")
    parser.add_argument(
        "--models",
        type=Path,
        default=ROOT / "resources" / "models",
        help="where the models go",
    )
    parser.add_argument("--only", choices=sorted(SOURCES), help="train this one alone")
    arguments = parser.parse_args()
    for target in [arguments.only] if arguments.only else SOURCES:
        print(train(target, arguments.data, arguments.models)["metrics"])


if __name__ == "__main__":
    main()
