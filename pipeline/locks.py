"""Who works on a campaign: files locked by the processes that have them open, and free as soon as these have ended.

Unlike a lock that is a file's existence, such a claim ends with its process, however that ends.
"""

import errno
import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}
RUN, JOBS = ".lock", ".jobs"
VARIABLE = "KIMBERLITE_RUN"


def claim(folder: str | os.PathLike, campaign: str) -> TextIO:
    """Take a campaign for this run, until the file is closed; jobs started by this process can :func:`join`.

    Args:
        folder: Of the campaign's logs, where the two files lie.
        campaign: Its name, for messages.

    Raises:
        ValueError: Another run has the campaign, on this machine or another on the same file system; or a job works on
            it that outlived its run.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    run = _lock(Path(folder, RUN), f"campaign '{campaign}' is taken by", "wait for that run, or end it")
    outlived = f"of campaign '{campaign}', a job outlived its run:"
    jobs = _lock(Path(folder, JOBS), outlived, "wait for it, or end it (kill, on a cluster scancel), and run again")
    jobs.truncate(0)
    jobs.close()
    run.truncate(0)
    _sign(run)
    os.environ[VARIABLE] = Path(folder, RUN).read_text()
    return run


def join(folder: str | os.PathLike) -> TextIO:
    """Work for the run that claimed the campaign; as long as the file is open, no other run begins.

    Raises:
        ValueError: That run has ended, and another has begun since: two jobs would write the same files.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = open(Path(folder, JOBS), "a+", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        check_run(folder)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            file.close()
            raise
    except ValueError:
        file.close()
        raise
    _sign(file)
    return file


def check_run(folder: str | os.PathLike) -> None:
    """End a job, perhaps one that waited on a cluster, whose run is no longer the one that has the campaign.

    Raises:
        ValueError: It is not.
    """
    mine, path = os.environ.get(VARIABLE), Path(folder, RUN)
    if mine and (path.read_text() if path.exists() else "") != mine:
        raise ValueError("the run that started this job has ended, and another has begun")


def _lock(path: Path, taken: str, mend: str) -> TextIO:
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        lines = file.read().splitlines()
        file.close()
        raise ValueError(f"{taken} {lines[-1] if lines else 'another process'}; {mend}") from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            file.close()
            raise
        print(f"{path}: this file system has no locks; see that one run at a time works here", file=sys.stderr)
    return file


def _sign(file: TextIO) -> None:
    print(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}", file=file)
    file.flush()
