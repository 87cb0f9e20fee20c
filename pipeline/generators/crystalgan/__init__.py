"""CrystalGAN: crystals of two metals and an anion, learnt from the binaries of each metal (hal-01902821).

Domains are made from the database (:mod:`.domains`), a first adversarial step translates between them, feature transfer
makes crystals of three elements, and a second step moves those until they keep the distance rule (:mod:`.adversarial`).
Networks are the paper's (:mod:`.dense`) or ours (:mod:`.graph`).
"""

from pipeline.generators.crystalgan.adversarial import train
from pipeline.generators.crystalgan.domains import Encoding, encode
from pipeline.generators.crystalgan.drawing import draw
from pipeline.generators.crystalgan.settings import PRESETS, Settings

__all__ = ["PRESETS", "Encoding", "Settings", "draw", "encode", "train"]
