"""What the property models and the ranking of the screening stage achieve, measured.

Run by ``python -m benchmarks.properties``; writes ``docs/screening.md`` and its pictures.
"""
