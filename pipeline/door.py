"""What every workflow script opens with: the log, the provenance, and one line when the user's input is at fault."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.provenance import record


class _Tee:
    """A stream that writes to the terminal and to the log."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            stream.write(text)
            stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            stream.flush()

    def isatty(self) -> bool:
        return self.streams[0].isatty()


@contextmanager
def door(snakemake, *inputs: str) -> Iterator[dict]:
    """Run a rule's script: stdout and stderr go to the terminal and to the rule's log.

    A ``ValueError`` or ``OSError`` is the user's to mend: its one line is printed and the script exits with 1, the
    traceback goes to the log. Anything else is ours and is shown in full.

    Args:
        snakemake: The object that Snakemake hands to a script; its params hold ``code``, ``seed`` and ``settings``.
        *inputs: Names of the inputs whose hashes belong in the provenance. Inputs that depend on how the work was
            scattered are left out, so that the result does not.

    Yields:
        The provenance for the tables that the script writes.
    """
    log_path = Path(snakemake.log[0])
    log_path.parent.mkdir(parents=True, exist_ok=True)
    streams = sys.stdout, sys.stderr
    with open(log_path, "w", encoding="utf-8") as log:
        sys.stdout = sys.stderr = _Tee(sys.stderr, log)
        try:
            params = snakemake.params
            files = {name: snakemake.input[name] for name in inputs}
            yield record(snakemake.rule, params.code, params.get("settings", {}), params.get("seed"), files)
        except (ValueError, OSError) as error:
            traceback.print_exc(file=log)
            line = " ".join(str(error).split())
            print(f"kimberlite: {snakemake.rule}: {line}", file=sys.stderr)
            sys.exit(1)
        finally:
            sys.stdout, sys.stderr = streams
