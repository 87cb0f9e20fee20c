"""Who works on what: a file locked by the process that has it open, and free as soon as that process has ended."""

import errno
import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


def claim(path: str | os.PathLike, what: str, mend: str) -> TextIO:
    """Open a file for writing that no other process has claimed; it stays claimed until it is closed.

    Unlike a lock that is a file's existence, it ends with its process, however that ends.

    Args:
        path: The file; it is made or emptied.
        what: What the file stands for, for the message.
        mend: What to do when another process has it.

    Raises:
        ValueError: Another process, of this machine or another on the same file system, has claimed it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            print(f"{path}: this file system has no locks; see that nothing else works on {what}", file=sys.stderr)
        elif isinstance(error, BlockingIOError):
            file.seek(0)
            owner = file.readline(200).strip() or "another process"
            file.close()
            raise ValueError(f"{what} is taken by {owner} ({path}); {mend}") from None
        else:
            file.close()
            raise
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}", file=file)
    file.flush()
    return file
