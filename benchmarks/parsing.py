"""Formula text to integers against ``pymatgen.core.Composition``."""

from benchmarks.compare import compare
from benchmarks.formulas import embedded
from pipeline.composition import SYMBOLS, Compositions


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`."""
    from pymatgen.core import Composition

    formulas = embedded(3000 if quick else 30000).formulas().to_pylist()
    return compare(
        lambda: [dict(zip(*map(tuple, row), strict=True)) for row in _pairs(Compositions.from_formulas(formulas))],
        lambda: [{SYMBOLS.index(el.symbol) + 1: int(n) for el, n in Composition(f).items()} for f in formulas],
        len(formulas),
        lambda ours, theirs: (sum(a != b for a, b in zip(ours, theirs, strict=True)), 0),
    )


def _pairs(compositions: Compositions):
    for begin, end in zip(compositions.offsets[:-1], compositions.offsets[1:], strict=True):
        yield compositions.elements[begin:end].tolist(), compositions.counts[begin:end].tolist()
