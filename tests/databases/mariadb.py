"""A real MariaDB server of its own: in a folder, on a free port of 127.0.0.1, gone when the test is over."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 60


class MariaDB:
    """One server; administered through its socket as root, reached over TCP by the users that a test makes.

    Args:
        folder: Where data, socket and log go; the socket's path must stay below 108 characters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._process = folder, _free_port(), None
        self.socket = folder / "s"
        # The server will not be root's without being told, and the installer looks up the user by name.
        user = ["--user=root"] if os.geteuid() == 0 else []
        self._options = ["--no-defaults", f"--datadir={folder / 'data'}", *user]
        made = subprocess.run(
            ["mariadb-install-db", *self._options, "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def start(self) -> None:
        """Start it and wait until it answers; after a kill it recovers first."""
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                shutil.which("mariadbd") or "/usr/sbin/mariadbd",
                *self._options,
                f"--socket={self.socket}",
                f"--pid-file={self.folder / 'pid'}",
                "--bind-address=127.0.0.1",
                f"--port={self.port}",
                "--local-infile=1",
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=256M",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        import pymysql

        try:
            self.admin().close()
        except pymysql.MySQLError:
            return False
        return True

    def admin(self, database: str | None = None):
        """A connection as root, every statement committed, that may load local files."""
        import pymysql

        return pymysql.connect(
            unix_socket=str(self.socket), user="root", database=database, local_infile=True, autocommit=True
        )

    def kill(self) -> None:
        """As a power cut ends it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(START_SECONDS)

    @property
    def peak_megabytes(self) -> int:
        """Most memory that the server held so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


@contextmanager
def mariadb(folder: Path) -> Iterator[MariaDB]:
    """A started server; the test is skipped where MariaDB is not installed."""
    if not shutil.which("mariadb-install-db"):
        pytest.skip("MariaDB is not installed (Debian and Ubuntu: apt-get install mariadb-server)")
    server = MariaDB(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder / "data", ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
