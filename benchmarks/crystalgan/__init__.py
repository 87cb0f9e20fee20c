"""What the generator `crystalgan` achieves, measured: Table II of its paper, and what CHGNet and Materials Project say.

Run by ``python -m benchmarks.crystalgan``; writes ``docs/crystalgan.md`` and its pictures.
"""
