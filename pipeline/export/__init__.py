"""What the DFT colleague gets: crystals, inputs of DFT codes, a manifest that says where each came from, check sums."""

from pipeline.export.stage import export

__all__ = ["export"]
