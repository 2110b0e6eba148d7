"""nginx as a proxy in front of the upstreams: one worker, no log, connections kept, nothing buffered."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.data_plane.tools import path_of
from bench.processes import Program, running

# nginx does not end with its standard input as the other programs do, so a shell sees to it. It prints the master's id;
# a configuration that cannot be used is told before that.
START = '"$1" -q -t -c "$2" || exit 1; "$1" -c "$2" & echo $!; cat >/dev/null; kill $!; wait'

KEPT = 128  # idle connections to upstreams; the bench's own load has fewer
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # directories that it makes, of use or not

CONFIGURATION = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {home}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  {temporary}
  upstream models {{ {servers} keepalive {kept}; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://models;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def configuration(home: Path, port: int, upstreams: Sequence[int], files: int) -> str:
    """The text of nginx.conf. `upstreams`: ports on this machine; `files`: how many it may have open."""
    return CONFIGURATION.format(
        home=home,
        port=port,
        files=files,
        connections=2 * files,  # it closes those that say nothing yet when fewer than a sixteenth are free
        kept=KEPT,
        servers=" ".join(f"server 127.0.0.1:{upstream};" for upstream in upstreams),
        temporary="\n  ".join(f"{name}_temp_path {home}/{name};" for name in TEMPORARY),
    )


@asynccontextmanager
async def nginx(home: Path, upstreams: Sequence[int], files: int) -> AsyncIterator[tuple[Program, int]]:
    """A running one, and its port. Its `line` is the master's process id.

    Raises:
        NotReadyError: it did not start.
    """
    port = _free_port()
    path = home / "nginx.conf"
    path.write_text(configuration(home, port, upstreams, files))
    async with running(["sh", "-c", START, "sh", path_of("nginx"), str(path)], {}, home / "nginx.log") as program:
        yield program, port


def _free_port() -> int:
    """One that nobody has now: nginx does not tell which one it was given."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
