"""A PostgreSQL server of the tests' own, in a folder of its own, on a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

USER, PASSWORD = "keeper", "s3cret-of-keeper"
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


def programs() -> Path:
    """Folder of initdb and postgres; skips without, fails where HOICLIP_REQUIRE_SERVICES=1."""
    beside = shutil.which("initdb")
    found = [Path(beside).parent] if beside else []
    found += [path for place in _PLACES for path in sorted(Path("/").glob(place[1:])) if (path / "initdb").exists()]
    if not found:
        if os.environ.get("HOICLIP_REQUIRE_SERVICES") == "1":
            pytest.fail("PostgreSQL is not installed, and HOICLIP_REQUIRE_SERVICES=1")
        pytest.skip("PostgreSQL is not installed; apt install postgresql")
    return found[-1]


class PostgresServer:
    """Runs as an unprivileged user, since PostgreSQL refuses root. `kill` and `start` it as often as you like."""

    def __init__(self) -> None:
        self._programs = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="hoiclip-postgres-"))
        self._user = "postgres" if os.getuid() == 0 else None
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if self._user:
            owner = pwd.getpwnam(self._user)
            for path in (self._folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        initdb = [self._programs / "initdb", "-D", self._folder / "data", "-U", USER, "--pwfile", password]
        initdb += ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            [str(word) for word in initdb], user=self._user, cwd=self._folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        with socket.socket() as single:
            single.bind(("127.0.0.1", 0))
            self.port = int(single.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        argv = [self._programs / "postgres", "-D", self._folder / "data", "-p", self.port]
        argv += [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
                user=self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                log_text = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                assert self._process.poll() is None, log_text
                assert time.monotonic() < deadline_s, log_text
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power failure would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Address of an empty database."""
        self._databases += 1
        name = f"events_{self._databases}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, where: str) -> None:
        """Removes a database, also while clients are connected to it."""
        self.execute("postgres", f"DROP DATABASE {where.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, database: str, statement: str) -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())
