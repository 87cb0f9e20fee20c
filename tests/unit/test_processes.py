"""Work in several processes: order, errors, and a process that dies."""

import os
import signal

import pytest

from pipeline.processes import in_order


def squared(number: int) -> int:
    return number**2


def killed(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    if number == 5:
        raise ValueError("five is not wanted")
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes):
    assert list(in_order(squared, list(range(20)), processes, size=3)) == [number**2 for number in range(20)]
    assert list(in_order(squared, [], processes, size=3)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_comes_through(processes):
    with pytest.raises(ValueError, match="five is not wanted"):
        list(in_order(refused, list(range(20)), processes, size=3))


def test_a_killed_process_is_an_end_with_a_reason():
    with pytest.raises(MemoryError, match="a process was killed"):
        list(in_order(killed, list(range(20)), 2, size=3))
