"""A PostgreSQL of the tests' own: a cluster in a directory that goes with it, on a loopback port, without rights.

It needs Debian's package `postgresql`, or any other whose programs are on the PATH; no service has to run. A small
shell keeps it: whatever becomes of the tests, its input ends with them, and with it the cluster and the directory.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TypedDict, cast

import psutil
from tests.ports import free_port

USER = "llm_router"
START = 30.0  # seconds; what a start takes on a busy machine
LOOK = 0.01  # seconds between looks
STATUS = 7  # the line of postmaster.pid that says whether it takes connections, from 0

# Nothing of it has to outlive a power cut, and a dozen of them may run at once.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
}

# Reads a word a line. SIGINT ends a cluster without waiting for its clients, SIGQUIT without waiting for anything; what
# is stopped hears neither.
KEEPER = """
while read -r word; do
    case $word in
    start) "$POSTGRES" -D "$DIRECTORY/data" -p "$PORT" >>"$DIRECTORY/log" 2>&1 </dev/null & server=$! ;;
    stop) kill -INT "$server"; wait "$server" ;;
    esac
    echo "$word" # done
done
if [ -n "$server" ] && kill -QUIT "$server" 2>/dev/null; then
    kill -CONT "$server" $(cat "/proc/$server/task/$server/children" 2>/dev/null) 2>/dev/null
    wait "$server"
fi
rm -rf "$DIRECTORY"
"""


class NotInstalled(Exception):
    """There is no PostgreSQL on this machine."""


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is: on the PATH, or where Debian puts them, the newest release first.

    Raises:
        NotInstalled: nowhere; the message says what to install.
    """
    releases = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, releases))) or shutil.which(name)
    if found is None:
        raise NotInstalled(f"PostgreSQL's `{name}` is not there: `apt install postgresql` (no service has to run)")
    return found


class Cluster:
    """One that runs from here on, until `close`."""

    def __init__(self) -> None:
        """Takes two seconds."""
        self._programs = {name: program(name) for name in ("initdb", "postgres", "psql")}
        self._directory = Path(tempfile.mkdtemp(prefix="llm-router-postgres-"))
        self._as_user = _as_user(self._directory)
        self._initialize()
        self._databases = 0
        self.port = free_port()
        self._keeper = self._keep()
        self.start()

    def _initialize(self) -> None:
        options = ("--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={USER}")
        data = self._directory / "data"
        self._do(self._programs["initdb"], *options, f"--pgdata={data}")
        lines = "".join(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        with (data / "postgresql.conf").open("a") as file:
            file.write(lines)

    def _keep(self) -> subprocess.Popen[str]:
        """The shell: in a session of its own, where Ctrl-C does not reach it."""
        names = {"POSTGRES": self._programs["postgres"], "DIRECTORY": str(self._directory), "PORT": str(self.port)}
        return subprocess.Popen(
            ["/bin/sh", "-c", KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | names,
            start_new_session=True,
            **self._as_user,
        )

    def start(self) -> None:
        """Run again, on the same port; returns when it takes connections."""
        self._tell("start")
        deadline = time.monotonic() + START
        while not self._is_ready():
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(LOOK)

    def stop(self) -> None:
        """End it, and all connections with it; what was written stays."""
        self._tell("stop")

    def pause(self) -> None:
        """Stop all of its processes where they are: connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        stdin, stdout = self._pipes()
        stdin.close()
        self._keeper.wait()
        stdout.close()

    @property
    def pid(self) -> int:
        """The server's process; all others of it are its children."""
        return int(self._about_server()[0])

    def url(self, database: str) -> str:
        """As a setting of the router."""
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of `template`, which nobody may be connected to. Takes 50 ms."""
        self._databases += 1
        name = f"d{self._databases}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it: each takes 8 MB."""
        self.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql answers, bare."""
        where = ("--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", f"--dbname={database}")
        return self._do(self._programs["psql"], *where, "--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", "-c", statement)

    def _tell(self, word: str) -> None:
        stdin, stdout = self._pipes()
        print(word, file=stdin, flush=True)
        assert stdout.readline().strip() == word, (self._directory / "log").read_text()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        return cast("IO[str]", self._keeper.stdin), cast("IO[str]", self._keeper.stdout)

    def _is_ready(self) -> bool:
        """PostgreSQL says so in a file (its manual, "postmaster.pid")."""
        lines = self._about_server()
        return len(lines) > STATUS and lines[STATUS].strip() == "ready"

    def _about_server(self) -> list[str]:
        try:
            return (self._directory / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _signal(self, which: signal.Signals) -> None:
        server = psutil.Process(self.pid)
        server.send_signal(which)  # first: it has no more children then than are found
        for process in server.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(which)

    def _do(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, check=False, text=True, **self._as_user)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class AsUser(TypedDict):
    """Of the arguments of `subprocess.Popen`."""

    cwd: Path
    user: str | None
    group: str | None
    extra_groups: list[str] | None


def _as_user(directory: Path) -> AsUser:
    """Nothing of PostgreSQL's runs as root: where we do, somebody else gets the directory, and does it."""
    if os.getuid() != 0:
        return AsUser(cwd=directory, user=None, group=None, extra_groups=None)
    user = next(name for name in ("postgres", "nobody") if _is_there(name))
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    shutil.chown(directory, user, group)
    return AsUser(cwd=directory, user=user, group=group, extra_groups=[])


def _is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
