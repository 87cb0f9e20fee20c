"""The process that reads structure files, one after another: ``python -m pipeline.database.structure_files``.

On stdin comes for each file a line of JSON (its kind, its size in bytes, seconds of processor time) and the file; on
stdout goes for each a line of JSON: its crystals and reasons. The process ends with its stdin. The kernel ends it when
a file takes too long, whatever it is doing.
"""

import json
import os
import resource
import signal
import sys
import warnings

import numpy as np

from pipeline.cells import Cell
from pipeline.database.crystals import MAX_SITES, cell_fault

# Address space; 2,000 sites take 0.5 GB with pymatgen.
MAX_MEMORY = 4 << 30

Found = list[tuple[str, Cell | str]]


def read_file(kind: str, content: bytes) -> Found:
    """(name of the block, cell or reason) of each crystal in a file; the name is "" where there is only one.

    Args:
        kind: ``cif`` or ``poscar``.
        content: In UTF-8, UTF-16 with its mark, or Latin-1.
    """
    from pipeline.database.cif import read_cif

    try:
        text = _decoded(content)
        found = read_cif(text) if kind == "cif" else [("", _poscar(text))]
    except Exception as error:  # pymatgen's parser stumbles in many ways
        found = [("", " ".join(str(error).split()) or type(error).__name__)]
    found = [
        (name, f"cannot be read as {kind}: {result}" if isinstance(result, str) else result) for name, result in found
    ]
    return [("", found[0][1])] if len(found) == 1 else found


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:  # an archive in the archive may hold text that parses
        raise ValueError("it is no text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _poscar(text: str) -> Cell | str:
    from pymatgen.core import Structure

    counts = " ".join(text.lstrip().split("\n", 26)[4:26]).split()  # where names and numbers of atoms may stand
    if any(_integer(count) > MAX_SITES for count in counts):
        raise ValueError(f"more than {MAX_SITES} sites")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")  # not the false names given
        cell = Cell.from_structure(Structure.from_str(text, fmt="poscar"))
    return cell_fault(cell) or cell


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def main() -> None:
    """Read files until stdin ends."""
    import pipeline.database.cif  # noqa: F401 - its time is no file's

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if sys.platform == "linux" and (hard == resource.RLIM_INFINITY or hard > MAX_MEMORY):  # others do not heed it
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, hard))
    files, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    answers.write(b"ready\n")
    answers.flush()
    for stream in (1, 2):  # what a file makes a library say is no answer, and not for the terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    while line := files.readline():
        kind, size, seconds = json.loads(line)
        content = files.read(size)
        if kind == "poscar":
            import pymatgen.io.vasp  # noqa: F401 - as little is this
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles the signal: it ends the process
        answer = json.dumps([_packed(name, found) for name, found in read_file(kind, content)])
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(answer.encode() + b"\n")
        answers.flush()


def _packed(name: str, found: Cell | str) -> list:
    if isinstance(found, str):
        return [name, found]
    return [name, found.lattice.ravel().tolist(), found.elements.tolist(), found.fractional.ravel().tolist()]


def unpacked(answer: bytes) -> Found:
    """What :func:`read_file` gave, from a line of the process."""
    return [
        (name, rest[0])
        if len(rest) == 1
        else (
            name,
            Cell(np.reshape(rest[0], (3, 3)), np.array(rest[1], dtype=np.uint8), np.reshape(rest[2], (-1, 3))),
        )
        for name, *rest in json.loads(answer)
    ]


if __name__ == "__main__":
    main()
