"""Settings of the export."""

from collections.abc import Mapping
from dataclasses import dataclass, field

VASP, ESPRESSO = "vasp", "espresso"
INPUTS = (VASP, ESPRESSO)
# The sets of pymatgen.io.vasp.sets that need no more than a crystal; the others follow an earlier calculation, or are
# of slabs, paths and molecular dynamics.
INPUT_SETS = (
    "MITRelaxSet",
    "MP24RelaxSet",
    "MP24StaticSet",
    "MPHSERelaxSet",
    "MPMetalRelaxSet",
    "MPRelaxSet",
    "MPScanRelaxSet",
    "MPScanStaticSet",
    "MPStaticSet",
    "MVLElasticSet",
    "MVLRelax52Set",
    "MVLScanRelaxSet",
    "MatPESRelaxSet",
    "MatPESStaticSet",
)


@dataclass(frozen=True)
class EspressoSettings:
    """Inputs of Quantum ESPRESSO's pw.x.

    Attributes:
        cutoff_ry: Plane-wave cutoff of the wave functions.
        density_cutoff_ry: Cutoff of the density; ultrasoft and PAW potentials need 8 to 12 times the other.
        smearing_ry: Width of the Marzari-Vanderbilt smearing.
        reciprocal_density: k-points for each cubic inverse angstrom of the reciprocal cell (factor 2 pi included), as
            pymatgen's VASP sets count them; 64 is that of ``MPRelaxSet``.
    """

    cutoff_ry: float = 60.0
    density_cutoff_ry: float = 480.0
    smearing_ry: float = 0.01
    reciprocal_density: float = 64.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"export.espresso.{name}: {value}; write a number above 0")


@dataclass(frozen=True)
class ExportSettings:
    """What is laid beside POSCARs and CIFs.

    Attributes:
        inputs: Any of ``vasp`` and ``espresso``, or none.
        vasp_input_set: Class of ``pymatgen.io.vasp.sets``, one of ``INPUT_SETS``.
        espresso: Of pw.x.
    """

    inputs: tuple[str, ...] = (VASP,)
    vasp_input_set: str = "MPRelaxSet"
    espresso: EspressoSettings = field(default_factory=EspressoSettings)

    def __post_init__(self):
        unknown = sorted(set(self.inputs) - set(INPUTS))
        if unknown:
            raise ValueError(f"export.inputs: {unknown}; choose from {list(INPUTS)}")
        if self.vasp_input_set not in INPUT_SETS:
            raise ValueError(f"export.vasp_input_set: '{self.vasp_input_set}'; choose from {list(INPUT_SETS)}")

    @classmethod
    def from_config(cls, section: Mapping) -> "ExportSettings":
        """From the section ``export`` of the config."""
        given = {"espresso": EspressoSettings(**section["espresso"])} if "espresso" in section else {}
        return cls(**{**section, "inputs": tuple(section["inputs"]), **given})
