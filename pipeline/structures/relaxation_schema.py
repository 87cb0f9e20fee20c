"""Settings and table of relaxations, light to import."""

import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS
from pipeline.provenance import file_digest
from pipeline.tables import Table, column

NONE, CHGNET = "none", "chgnet"

_NONE = "there is no relaxed cell"
RELAXATIONS = Table(
    "relaxations",
    (
        column("key", pa.string(), "digest of the cell that was relaxed"),
        *CELL_COLUMNS,
        column("energy_ev_per_atom", pa.float64(), "the potential's, of the relaxed cell", null=_NONE),
        column("volume_ratio", pa.float64(), "volume after over volume before", null=_NONE),
        column("n_steps", pa.int32(), "steps taken", null=_NONE),
        column("maximum_force_ev_per_angstrom", pa.float64(), "largest force on an atom", null=_NONE),
        column("maximum_stress_gpa", pa.float64(), "largest principal stress, its sign left out", null=_NONE),
        column("converged", pa.bool_(), "whether forces on atoms and cell came below the limit", null=_NONE),
        column("space_group_before", pa.int32(), "1 to 230", null=f"{_NONE}, or none was found"),
        column("space_group_after", pa.int32(), "1 to 230", null=f"{_NONE}, or none was found"),
        column("reason", pa.string(), "why there is no relaxed cell", null="there is one"),
    ),
)


@dataclass(frozen=True)
class RelaxationSettings:
    """How cells are relaxed.

    Attributes:
        potential: ``none``, ``chgnet``, or ``module:callable`` that makes an ASE calculator, e.g.
            ``sevenn.calculator:SevenNetCalculator``.
        arguments: Of that callable, by name, e.g. ``{"model": "7net-0"}`` or the path of a file of weights.
        max_steps: Steps at most.
        fmax_ev_per_angstrom: Relaxation ends when no force on an atom, and none on a lattice vector (stress times
            volume per atom, as ASE's ``FrechetCellFilter`` has it), is larger.
        keep_symmetry: Make the cell as symmetric as spglib finds it within ``symprec_angstrom``, and keep it so.
        symprec_angstrom: Tolerance of the space groups.
        max_atoms: Larger cells are not relaxed.
        max_volume_ratio: A cell that grows or shrinks by more on the way has failed.
        min_distance_factor: So has one with two atoms nearer than this times the sum of their covalent radii.

    Raises:
        ValueError: A value is out of its range.
    """

    potential: str = CHGNET
    arguments: dict = field(default_factory=dict)
    max_steps: int = 200
    fmax_ev_per_angstrom: float = 0.05
    keep_symmetry: bool = True
    symprec_angstrom: float = 0.01
    max_atoms: int = 100
    max_volume_ratio: float = 2.0
    min_distance_factor: float = 0.6

    def __post_init__(self):
        if self.potential not in (NONE, CHGNET) and not all(self.potential.partition(":")):
            raise ValueError(
                f"relaxation.potential: '{self.potential}'; give '{NONE}', '{CHGNET}', or 'module:callable' of an ASE "
                "calculator, e.g. 'sevenn.calculator:SevenNetCalculator'"
            )
        if self.arguments and self.potential in (NONE, CHGNET):
            raise ValueError(
                f"relaxation.arguments: {sorted(self.arguments)}; only a 'module:callable' takes any, leave them out"
            )

    def digest(self, potential: str) -> str:
        """16 hexadecimal digits that change with whatever changes a relaxation.

        Args:
            potential: Name and version of the potential. Where an argument, or what it lists, is the path of a file,
                its bytes count too.
        """
        values = [one for value in self.arguments.values() for one in (value if isinstance(value, list) else [value])]
        files = [file_digest(value) for value in values if isinstance(value, str) and Path(value).is_file()]
        about = json.dumps([_METHOD, potential, asdict(self), files], sort_keys=True, default=repr)
        return hashlib.sha256(about.encode()).hexdigest()[:16]


def check_potential(settings: RelaxationSettings) -> None:
    """Whether the module of the potential is installed, without importing it.

    Raises:
        ValueError: It is not.
    """
    module, _, name = settings.potential.partition(":")
    try:
        found = not name or importlib.util.find_spec(module)
    except ImportError:
        found = False
    if not found:
        raise ValueError(
            f"relaxation.potential: module '{module}' of '{settings.potential}' is not installed; install its package "
            "into this environment, or mend the name: 'module:callable'"
        )


_METHOD = 1  # one more whenever the code comes to another relaxed cell: what earlier code has relaxed is done again
