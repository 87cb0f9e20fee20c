"""Ours against the library that defines the thing: same input, one process, one JSON line."""
