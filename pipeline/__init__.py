"""Kimberlite: from a database of known compounds to POSCARs of hypothetical ones, one package or module a stage."""

__version__ = "0.1.0"
