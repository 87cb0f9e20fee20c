"""Work in several processes, from a rule's script too."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process


@contextmanager
def pool(processes: int) -> Iterator[Callable[..., Future]]:
    """Yield ``submit`` of a pool of fresh processes, which end with this one and leave what waits undone."""
    executor = ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent)
    try:
        yield lambda *call: _apart(executor.submit, *call)
    finally:
        executor.shutdown(cancel_futures=True)


def in_order(function: Callable, items: Sequence, processes: int, size: int) -> Iterator:
    """``function`` of each item, in the order of the items; a process takes ``size`` of them at once.

    Raises:
        MemoryError: A process was killed.
    """
    runs = [items[start : start + size] for start in range(0, len(items), size)]
    if min(processes, len(runs)) <= 1:
        yield from map(function, items)
        return
    with pool(min(processes, len(runs))) as submit:
        futures = [submit(_each, function, run) for run in runs]
        try:
            for future in futures:
                yield from future.result()
        except BrokenProcessPool as error:
            raise MemoryError("a process was killed") from error


def _each(function: Callable, items: Sequence) -> list:
    return [function(item) for item in items]


def _apart(submit: Callable[..., Future], *call) -> Future:
    # A fresh process imports the file of `__main__`, which in a rule's script would run the rule once more.
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    vars(main).update(dict.fromkeys(kept))
    try:
        return submit(*call)
    finally:
        vars(main).update(kept)


def _end_with_parent() -> None:
    def wait() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
