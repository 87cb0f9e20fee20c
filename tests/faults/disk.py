"""Real file systems for disk faults: a small tmpfs over a folder, filled up or turned read-only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 64 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 MB over the folder, with the folder's content; afterwards the folder is as it was."""
    aside = folder.with_name(f".{folder.name}.aside")
    shutil.copytree(folder, aside)
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(aside)


@contextmanager
def full(disk: Path, left: int) -> Iterator[None]:
    """Inside the block only `left` bytes are free, in whole pages."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    size = room.f_bavail * room.f_frsize - left // PAGE * PAGE
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Inside the block nothing can be written."""
    mount("-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        mount("-o", "remount,rw", str(disk))


def mount(*arguments: str) -> None:
    """mount(8); a test that may not is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    said = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if said.returncode:
        pytest.skip(f"no file system can be mounted here: {said.stderr.strip()}")
