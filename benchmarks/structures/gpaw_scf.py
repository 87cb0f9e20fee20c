"""One SCF with GPAW; run by the Python that GPAW is installed for, which need not be the one of this project.

gpaw_scf.py setups         the elements with a PBE setup, as JSON
gpaw_scf.py POSCAR         energy, iterations, convergence, as JSON

Loose, but a whole SCF: plane waves to 400 eV, PBE, k-points at 1.5 per inverse angstrom around Gamma, without spin.
"""

import json
import sys
from pathlib import Path

CUTOFF_EV = 400
K_POINT_DENSITY = 1.5  # points per inverse angstrom along each reciprocal vector
SMEARING_EV = 0.1
CONVERGENCE = {"energy": 1e-3, "density": 1e-3, "eigenstates": 1e-3}  # eV/electron, electrons/electron, eV^2/electron
MAX_ITERATIONS = 150


def setups() -> list[str]:
    """Symbols of the elements that GPAW has a PBE setup for."""
    import gpaw

    names = [path.name for folder in gpaw.setup_paths for path in Path(folder).glob("*.PBE*")]
    return sorted({name.split(".")[0] for name in names if name.split(".")[1] == "PBE"})


def scf(poscar: str) -> dict:
    """Energy (eV of the cell), iterations, and whether it converged; the reason where it did not."""
    import ase.io
    from gpaw import GPAW, PW, FermiDirac, KohnShamConvergenceError

    atoms = ase.io.read(poscar, format="vasp")
    atoms.calc = GPAW(
        mode=PW(CUTOFF_EV),
        xc="PBE",
        kpts={"density": K_POINT_DENSITY, "gamma": True},
        occupations=FermiDirac(SMEARING_EV),
        convergence=CONVERGENCE,
        maxiter=MAX_ITERATIONS,
        txt=None,
    )
    done = {"formula": atoms.get_chemical_formula("metal"), "atoms": len(atoms)}
    try:
        energy = float(atoms.get_potential_energy())
    except KohnShamConvergenceError:
        return {**done, "energy_ev": None, "iterations": MAX_ITERATIONS, "converged": False}
    iterations = int(atoms.calc.get_number_of_iterations())
    return {**done, "energy_ev": round(energy, 4), "iterations": iterations, "converged": True}


if __name__ == "__main__":
    print(json.dumps(setups() if sys.argv[1] == "setups" else scf(sys.argv[1])))
