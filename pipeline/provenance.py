"""Which code, seeds and inputs made a file, and the digests by which Snakemake sees a change in either."""

import ast
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDED_PACKAGES = tuple(
    "ase chgnet lightgbm matminer numba numpy pyarrow pymatgen safetensors smact spglib torch".split()
)


def source_digest(*modules: str) -> str:
    """Hash of what the modules do: their syntax trees and those of the in-package modules that they import.

    Comments, layout and docstrings do not count; neither does a module that is imported by name at run time (the
    chosen generator), so callers name that one too. Standard library only, since every Snakemake start pays for it.

    Args:
        modules: Dotted names, e.g. ``"pipeline.filtering"``; a package stands for its ``__init__`` and whatever that
            imports.

    Returns:
        16 hexadecimal digits.
    """
    closure: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in closure:
            closure.add(module)
            waiting.extend(_parsed(module)[1])
    text = "\n".join(f"{module} {_parsed(module)[0]}" for module in sorted(closure))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def list_digest(paths: Iterable[str | Path]) -> str:
    """SHA-256 of what ``sha256sum PATH...`` prints: names and contents, whatever the files' times.

    A file that may not be read counts by its name alone.
    """
    lines = hashlib.sha256()
    for path in paths:
        try:
            digest = file_digest(path)
        except OSError:
            digest = "unreadable"
        lines.update(f"{digest}  {path}\n".encode(errors="surrogateescape"))
    return lines.hexdigest()


def seal_of(path: str | Path) -> Path:
    """The hidden file beside a stage's output that keeps its digest."""
    return Path(path).with_name(f".{Path(path).name}.sha256")


def seal(path: str | Path) -> None:
    """Note a file's digest, so that its readers can tell damage from data: JSON and Parquet's footers have none."""
    from pipeline.tables import atomic  # takes pyarrow along, which the start of Snakemake does not wait for

    with atomic(seal_of(path)) as temporary:
        temporary.write_text(f"{file_digest(path)}\n")


def verify(path: str | Path) -> None:
    """Hold a file to the digest that :func:`seal` noted; a file without one (the user's own) is taken as it is.

    Raises:
        ValueError: The bytes are others than its stage wrote.
    """
    if seal_of(path).exists() and seal_of(path).read_text().split()[:1] != [file_digest(path)]:
        raise ValueError(f"{path}: damaged or edited since its stage wrote it; delete it and rerun that stage")


def derived_seed(seed: int, *keys: object) -> int:
    """A 63-bit seed for one piece of work, from the campaign's seed and the name of the piece."""
    text = repr((int(seed), *keys)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def record(
    stage: str, code: str, settings: dict, seed: int | None, inputs: dict[str, str | Path | Sequence[str | Path]]
) -> dict:
    """What a table says of its making.

    Args:
        stage: Name of the stage.
        code: :func:`source_digest` of the modules that ran.
        settings: The config keys that the rule passed.
        seed: The campaign's seed; None where nothing is random.
        inputs: Name and path, or paths, of each input; stored as SHA-256.
    """
    return {
        "stage": stage,
        "code": code,
        "settings": settings,
        "seed": seed,
        "inputs": {
            name: file_digest(paths) if isinstance(paths, (str, Path)) else [file_digest(path) for path in paths]
            for name, paths in sorted(inputs.items())
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        },
    }


@cache
def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    path = _path(module)
    if path is None:
        raise ValueError(f"no module '{module}' under {ROOT}")
    tree = ast.parse(path.read_text(), filename=str(path))
    imported = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            imported.add(base)
            imported.update(f"{base}.{alias.name}" for alias in node.names)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _has_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    ours = tuple(sorted(name for name in imported if name.split(".")[0] == "pipeline" and _path(name)))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours


def _has_docstring(node: ast.AST) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _path(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
