"""A campaign as it lies in its folder: its config, read as the workflow reads it, its models, and what it has made."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration import check
from pipeline.filtering.schema import Rules
from pipeline.provenance import ROOT
from pipeline.screening.criteria import Criteria
from pipeline.screening.distribution import Residuals, read_quantiles
from pipeline.screening.likeness import LIKENESS
from pipeline.screening.models import BAND_GAP, DECOMPOSITION_ENERGY, DESCRIPTION_FILE

TRAIN = "train"
"""In place of a folder of a model: the campaign's own."""


@dataclass(frozen=True)
class Campaign:
    """A campaign.

    Attributes:
        config: The merged config, held to its schema.
        results: Folder of its results.
    """

    config: dict
    results: Path

    @classmethod
    def read(cls, overlays: Sequence[Path], results: Path | None) -> "Campaign":
        """Read `config/config.yaml` and what is laid over it, in order.

        Args:
            overlays: Files as given to ``snakemake --configfile``.
            results: Folder of the results; None for ``results/NAME`` of the config's campaign.

        Raises:
            ValueError: A file is missing or no config.
        """
        from snakemake.common.configfile import load_configfile
        from snakemake.exceptions import WorkflowError
        from snakemake.utils import update_config

        config = {}
        for path in (ROOT / "config" / "config.yaml", *overlays):
            try:
                update_config(config, load_configfile(str(path)))
            except (WorkflowError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise ValueError(f"{path}: {reason}; give the files that snakemake was given") from None
        check(config, ROOT / "workflow" / "schemas" / "config.schema.json")
        return cls(config, results or Path("results") / config["campaign"])

    @property
    def criteria(self) -> Criteria:
        """What is asked of candidates."""
        return Criteria(**self.config["screening"]["select"])

    @property
    def rules(self) -> Rules:
        """The filter's."""
        return Rules(**{key: value for key, value in self.config["filtering"].items() if key != "reject"})

    @property
    def rejects_invalid(self) -> bool:
        """Whether what the filter finds invalid falls."""
        return self.config["filtering"]["reject"]

    @property
    def entries(self) -> Path:
        """The database.

        Raises:
            ValueError: There is none.
        """
        path = self.results / "database" / "entries.parquet"
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; run `snakemake --cores 2 screening` with the same --configfile first, or name "
                "another folder by --results"
            )
        return path

    @property
    def models(self) -> dict[str, Path]:
        """Folder of each model by its target, and of ``likeness``."""
        chosen = self.config["screening"]["models"]
        own = self.results / "screening" / "models"
        folders = {
            target: own / target if name == TRAIN else ROOT / os.path.expanduser(os.path.expandvars(name))
            for target, name in chosen.items()
            if name is not None
        }
        return folders | {LIKENESS: own / LIKENESS}

    @property
    def residuals(self) -> Residuals:
        """How the models err.

        Raises:
            ValueError: A model is missing.
        """
        return Residuals(*map(self._quantiles, (DECOMPOSITION_ENERGY, BAND_GAP)))

    def parts(self, table: str) -> list[Path]:
        """The parts of a table, ``"screening/screened"`` say; none where it was not made."""
        return sorted((self.results / table).glob("part-*.parquet"))

    def _quantiles(self, target: str) -> list[float]:
        path = self.models[target] / DESCRIPTION_FILE
        if not path.is_file():
            raise ValueError(f"{path}: no such file; run `snakemake --cores 2 screening`, which trains it, first")
        return read_quantiles(path)
