"""The real formulas that benchmarks run on."""

from pipeline.composition import Compositions
from pipeline.database.sources import read_source


def embedded(n: int) -> Compositions:
    """The first ``n`` distinct reduced formulas of two elements or more in the embedded database."""
    rows = read_source({"kind": "matminer_transport"})
    compositions = Compositions.from_dicts(row.amounts for row in rows).reduced()
    compositions = compositions.take(compositions.n_elements > 1)
    return compositions.take(compositions.unique()[0][:n])
