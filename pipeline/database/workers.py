"""Structure files read by several processes at once, in the order in which they come.

A file that takes too long, or makes the library that reads it crash, ends its process and costs that file alone.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from pipeline.database.structure_files import Found, unpacked

Key = TypeVar("Key")
File = tuple[str, bytes] | str  # (kind, content), or why there is no content

COMMAND = (sys.executable, "-P", "-W", "ignore", "-m", "pipeline.database.structure_files")
AHEAD = 16  # files that wait or are done, for each process: one slow file does not stop the others


class _Worker:
    """One process. The kernel, and not this one, measures its time: no parser can hold that off."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        _alive.add(self)
        if not self.process.stdout.readline():
            self.end()
            raise RuntimeError(f"the process that reads structure files does not start: {' '.join(COMMAND)}")

    def read(self, kind: str, content: bytes, seconds: float) -> bytes:
        """Its answer; b"" when it died."""
        try:
            self.process.stdin.write(json.dumps([kind, len(content), seconds]).encode() + b"\n" + content)
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            return b""
        return answer if answer.endswith(b"\n") else b""

    def end(self) -> int:
        """Kill and bury it; returns its exit status."""
        _alive.discard(self)
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


_alive: set[_Worker] = set()
_idle: list[_Worker] = []  # they wait for the next source


@atexit.register
def end_all() -> None:
    """Kill all processes; they end as well when this process is killed, after the file that they read."""
    _idle.clear()
    for worker in list(_alive):
        worker.process.kill()
        worker.process.wait()
        _alive.discard(worker)


def read_files(files: Iterable[tuple[Key, File]], workers: int, seconds: float) -> Iterator[tuple[Key, Found]]:
    """The crystals of each file, or reasons, in the order of the files.

    Memory holds ``AHEAD`` files for each process, whatever their number.

    Args:
        files: A key and, beside it, kind and content of the file, or the reason why it has none.
        workers: Processes, at least 1; each starts when a file first needs it.
        seconds: Of processor time, after which a file is given up.
    """
    tasks: SimpleQueue[tuple[Future, File] | None] = SimpleQueue()
    busy: set[_Worker] = set()
    closing = False

    def serve() -> None:
        while (task := tasks.get()) is not None and not closing:
            future, file = task
            try:
                future.set_result([("", file)] if isinstance(file, str) else _read(*file, seconds, busy))
            except Exception as error:
                future.set_exception(error)

    for _ in range(workers):
        Thread(target=serve, daemon=True).start()  # no thread holds off the end of the program
    waiting: deque[tuple[Key, Future]] = deque()
    try:
        for key, file in files:
            waiting.append((key, Future()))
            tasks.put((waiting[-1][1], file))
            if len(waiting) > AHEAD * workers:
                key, future = waiting.popleft()
                yield key, future.result()
        for key, future in waiting:
            yield key, future.result()
    finally:
        closing = True
        for _ in range(workers):
            tasks.put(None)
        while busy:  # with files that nobody waits for any more
            busy.pop().process.kill()


def _read(kind: str, content: bytes, seconds: float, busy: set[_Worker]) -> Found:
    for _ in range(2):  # once more, should the system have killed the process in want of memory, or another file's
        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        busy.add(worker)
        answer = worker.read(kind, content, seconds)
        wanted = worker in busy
        busy.discard(worker)
        if answer and wanted:
            _idle.append(worker)
            return unpacked(answer)
        status = worker.end()
        if not wanted:
            return []
        if status == -signal.SIGPROF:
            return [("", f"cannot be read as {kind} within {seconds} s")]
    return [("", f"cannot be read as {kind}: the process that reads it died ({_died(status)})")]


def _died(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
