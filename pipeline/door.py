"""What every workflow script opens with: the log, the provenance, and one line when the user's input is at fault."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.locks import join
from pipeline.provenance import record, seal, verify
from pipeline.text import visible


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

    A ``ValueError``, ``OSError`` or ``MemoryError`` is the user's to mend: its one line is printed and the script exits
    with 1, the traceback goes to the log. Anything else is ours and is shown in full. While the script runs, no other
    run of the campaign can begin: a job that outlived its run and the next run's would write the same outputs.

    Args:
        snakemake: The object that Snakemake hands to a script; its params hold ``code``, ``seed`` and ``settings``.
        *inputs: Names of the inputs whose hashes belong in the provenance. Inputs that depend on how the work was
            scattered are left out, so that the result does not.

    Yields:
        The provenance for the tables that the script writes.
    """
    log_path = Path(snakemake.log[0])
    streams = sys.stdout, sys.stderr
    try:
        job = join(log_path.parent)
    except (ValueError, OSError) as error:
        sys.exit(f"kimberlite: {snakemake.rule}: {error}")
    with job, open(log_path, "w", encoding="utf-8") as log:
        sys.stdout = sys.stderr = _Tee(sys.stderr, log)
        try:
            for path in snakemake.input:
                verify(path)
            params = snakemake.params
            files = {name: snakemake.input[name] for name in inputs}
            yield record(snakemake.rule, params.code, params.get("settings", {}), params.get("seed"), files)
            for path in snakemake.output:
                seal(path)
        except (ValueError, OSError, MemoryError) as error:
            traceback.print_exc(file=log)
            print(f"kimberlite: {snakemake.rule}: {_line(error, snakemake)}", file=sys.stderr)
            sys.exit(1)
        finally:
            sys.stdout, sys.stderr = streams


def _line(error: Exception, snakemake) -> str:
    if isinstance(error, MemoryError):
        asked = snakemake.resources.get("mem_mb", "?")
        return f"out of memory, the rule asks for {asked} MB ({error}); run with more, or with smaller shards"
    return visible(" ".join(str(error).split()))  # no file steers the terminal
