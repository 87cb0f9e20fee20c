"""How CrystalGAN trains: the published hyperparameters, the paper's baselines, and ours."""

from dataclasses import dataclass, replace

from pipeline.generators.crystalgan.geometry import D1_ANGSTROM, D2_ANGSTROM

METHODS = ("crystalgan", "discogan", "gan")
NETWORKS = ("dense", "graph")
GEOMETRIES = ("window", "published", "none")


@dataclass(frozen=True)
class Settings:
    """How CrystalGAN and its baselines train.

    Args:
        method: ``crystalgan`` (both steps), ``discogan`` (the first step alone), ``gan`` (noise in, no domains).
        networks: ``dense`` as published, or ``graph`` (periodic, equivariant; several pairs of metals in one model).
        epochs: Of each step; 1000 in the paper. In each, as many batches as the larger domain has, drawn at random; the
            whole domain where one batch takes it all.
        batch_size: 35 in the paper, which is all of a domain.
        generator_rate, critic_rate: Learning rates of Adam; both 1e-4 in the paper.
        adam_beta1: 0.5 in the paper.
        adversarial_weight, reconstruction_weight, geometry_weight: The lambdas of equations 10 and 25, equal for both
            directions; 1 in the paper ("quite close to 1").
        geometry: Of the second step: ``published`` (equations 12 to 14 as written, lowest where like atoms coincide),
            ``window`` (ours: the squared distance from the window, of every atom), or ``none``.
        d1_angstrom, d2_angstrom: Window of the distances between like atoms.
        contact_factor: With ``window``, anions and metals are pushed apart to this times the sum of their covalent
            radii; the paper leaves them free, and its example has H-Pd at 0.81 angstrom, 0.48 times the sum.
    """

    method: str
    networks: str
    epochs: int
    batch_size: int
    generator_rate: float
    critic_rate: float
    geometry: str
    adam_beta1: float = 0.5
    adversarial_weight: float = 1.0
    reconstruction_weight: float = 1.0
    geometry_weight: float = 1.0
    d1_angstrom: float = D1_ANGSTROM
    d2_angstrom: float = D2_ANGSTROM
    contact_factor: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("networks", NETWORKS), ("geometry", GEOMETRIES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"training.settings.{name}: '{getattr(self, name)}'; choose from {', '.join(choices)}")
        if self.networks == "graph" and self.method == "gan":
            raise ValueError("training.settings.networks: 'graph' moves given crystals, 'gan' has none; write 'dense'")
        if not 0 < self.d1_angstrom < self.d2_angstrom:
            raise ValueError(
                f"training.settings: d1_angstrom {self.d1_angstrom} must lie between 0 and d2_angstrom "
                f"{self.d2_angstrom}; mend them"
            )


_PAPER = Settings("crystalgan", "dense", 1000, 35, 1e-4, 1e-4, "published")
PRESETS = {
    "paper": _PAPER,
    "paper_unconstrained": replace(_PAPER, geometry="none"),
    # One step: as many epochs as CrystalGAN's two have together.
    "discogan": replace(_PAPER, method="discogan", geometry="none", epochs=2000),
    "gan": replace(_PAPER, method="gan", geometry="none", epochs=2000),
    "default": Settings("crystalgan", "graph", 150, 35, 5e-4, 2e-4, "window", geometry_weight=30.0, contact_factor=0.9),
}
