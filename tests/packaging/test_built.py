"""What `make dist` builds is what people install, so it is installed as they do it, and has to answer (I3).

It is built once, and one empty environment is made: a minute and a half of one core. Nothing of this checkout is used
by what runs here: no Python on PATH, no PYTHONPATH, a home of its own.
"""

import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from tests.ports import free_port
from tests.system.harness import HELLO, START, ask, call, eventually

from llm_router import __version__
from llm_router.node.models.builtin import SENTENCE

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "packaging" / "release" / "smoke.sh"
TOLD = {"README.md", "README.ja.md", "LICENSE"}
BUILDING = 1800.0  # seconds; it takes two minutes where there is nothing else to do

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(BUILDING)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which `make dist` has built."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "dist", f"ARGS={out}"], cwd=ROOT, check=True)  # noqa: S607 - whichever make the suite runs under
    return out


@pytest.fixture(scope="module")
def archive(built: Path) -> Path:
    (found,) = (file for file in built.iterdir() if file.name.startswith("or-router-"))
    return found


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that comes out of the archive, in an empty one."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")  # nothing may lie outside, or belong to others
    (directory,) = place.iterdir()
    return directory


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without packages. What is pinned is what the project is tested with."""
    place = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    return place


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned versions as constraints, without hashes: pip would want one for what was built, too."""
    file = tmp_path_factory.mktemp("pins") / "pins.txt"
    lines = (ROOT / "requirements" / "run.txt").read_text("utf-8").splitlines()
    file.write_text("\n".join(line.removesuffix(" \\") for line in lines if re.match(r"\w", line)))
    return file


def install(environment: Path, *what: str | Path) -> None:
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile")
    subprocess.run((*pip, *what), check=True)


class Up:
    """A running `llm-router up` of this program, with nothing in its environment but `variables`."""

    def __init__(self, program: Path, directory: Path, variables: Mapping[str, str] | None = None) -> None:
        nothing = directory / "nothing"
        nothing.mkdir(exist_ok=True)
        command = (program, "up", "--home", directory / "home", "--port", "0", "--node-port", "0")
        self.process = subprocess.Popen(
            command,
            env={"PATH": str(nothing), **(variables or {})},
            cwd=nothing,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        address = re.search(r"OpenAI +(http\S+)/v1", self.said)
        assert address, self.said
        self.url = address[1]

    def end(self, number: signal.Signals) -> int:
        """Its status, once it and all that it has started are gone."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        assert started
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=START)[0]
        psutil.wait_procs(started, START)
        assert not [child for child in started if child.is_running()]
        return self.process.returncode


@contextmanager
def running(program: Path, directory: Path, variables: Mapping[str, str] | None = None) -> Iterator[Up]:
    """It is running, and ended by force if the block forgets to."""
    up = Up(program, directory, variables)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()


def answers(up: Up) -> bool:
    """Whether real llama.cpp has answered."""
    answer = ask(up.url, "ollama", HELLO)
    return answer.status == 200 and answer.json()["message"]["content"].split() == SENTENCE.split()


# -- the archive


def test_name(archive: Path) -> None:
    """It is named after the platform and the version (I3), and everything in it lies in a directory of that name."""
    assert re.fullmatch(rf"or-router-(linux|macos)-\w+-{re.escape(__version__)}\.tar\.gz", archive.name)
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert {member.name.split("/")[0] for member in members} == {archive.name.removesuffix(".tar.gz")}
    assert {member.uname for member in members} == {"root"}  # whoever built it


def test_what_people_see(unpacked: Path) -> None:
    """The command, both READMEs, the licence (I3); everything else is in a directory of its own."""
    assert {path.name for path in unpacked.iterdir()} == {"llm-router", "_internal", *TOLD}
    for name in TOLD:
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_licences(unpacked: Path) -> None:
    """What comes from others has their licence with it: all that is compiled, and so lies there by its name."""
    inside = unpacked / "_internal"
    licences = [*inside.glob("*.dist-info/**/LICEN[CS]E*"), *inside.glob("*.dist-info/**/COPYING*")]
    told = {path.relative_to(inside).parts[0].partition("-")[0] for path in licences}
    compiled = {path.relative_to(inside).parts[0] for path in inside.glob("*/**/*.so")}
    names = {"backports": "backports_zstd", "google": "protobuf", "yaml": "pyyaml"}
    assert {names.get(name, name) for name in compiled if not name.startswith("python3.")} <= told


def test_program_answers(unpacked: Path, tmp_path: Path) -> None:
    """Where there is no Python: router and node start, a model answers, its request is in the history; Ctrl-C ends all.

    So the migrations, the process that writes, the model's process and the dashboard's files are in it.
    """
    with running(unpacked / "llm-router", tmp_path) as up:
        assert answers(up)
        assert b"<!doctype html>" in call(up.url, "GET", "/dashboard").body
        (record,) = eventually(lambda: call(up.url, "GET", "/v0/requests").json())
        assert record["model"] == HELLO
        assert up.end(signal.SIGINT) == 130
    assert "Traceback" not in up.said


def test_program_traces(unpacked: Path, tmp_path: Path) -> None:
    """What is an extra elsewhere is in it, since nothing can be added; SIGTERM ends it and all that it has started."""
    with collector() as (variables, got), running(unpacked / "llm-router", tmp_path, variables) as up:
        assert answers(up)
        assert up.end(signal.SIGTERM) == 0
    assert "/v1/traces" in got


def test_smoke(unpacked: Path) -> None:
    """What a release asks of every system's program, `smoke.sh`: this one passes, one that does nothing does not."""
    for program, passes in ((unpacked / "llm-router", True), (Path("/bin/true"), False)):
        variables = {**os.environ, "PORT": str(free_port())}
        done = subprocess.run([SMOKE, program], env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == passes, done.stderr
        assert (done.stdout.split() == SENTENCE.split()) == passes


@contextmanager
def collector() -> Iterator[tuple[dict[str, str], list[str]]]:
    """One that takes whatever it is sent: the variables that name it, and the paths to which it was sent."""
    got: list[str] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            got.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: http.server would print it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}, got
        server.shutdown()


def test_program_knows_postgresql(unpacked: Path, tmp_path: Path) -> None:
    """The driver is in it: a router that is to be one of many says that its database does not answer."""
    command = (unpacked / "llm-router", "serve", "--home", tmp_path, "--host", "127.0.0.1", "--port", "0")
    variables = {"LLM_ROUTER_DATABASE_URL": f"postgresql+asyncpg://127.0.0.1:{free_port()}/none"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=START, check=False)
    assert done.returncode == 2
    assert "cannot be opened" in done.stderr
    assert "refused" in done.stderr.lower()


@pytest.mark.parametrize("arguments", [("-m", "json.tool"), ("-P", "-m", "timeit"), ("-c", "print()")])
def test_no_python(unpacked: Path, arguments: tuple[str, ...]) -> None:
    """It runs modules of its own, as it has to start itself, and is no Python for anything else."""
    done = subprocess.run([unpacked / "llm-router", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such option" in done.stderr


# -- wheel and sdist


def test_wheel(built: Path, empty: Path, pins: Path, tmp_path: Path) -> None:
    """`pip install` of the wheel brings all that is needed: the command starts router and node, and a model answers."""
    install(empty, *built.glob("*.whl"), "-c", pins)
    with running(empty / "bin" / "llm-router", tmp_path) as up:
        assert answers(up)
        assert up.end(signal.SIGTERM) == 0


def test_sdist(built: Path, empty: Path, pins: Path, tmp_path: Path) -> None:
    """The same of the source distribution, from which pip builds; what it depends on may be there already."""
    (source,) = built.glob("llm_router_system-*.tar.gz")
    subprocess.run([empty / "bin" / "python", "-m", "pip", "uninstall", "-q", "-y", "llm-router-system"], check=True)
    install(empty, source, "-c", pins)
    with running(empty / "bin" / "llm-router", tmp_path) as up:
        assert answers(up)
        assert up.end(signal.SIGTERM) == 0


def test_sdist_is_the_source(built: Path) -> None:
    """The source distribution has what is in the repository, and nothing that was built or installed beside it."""
    (source,) = built.glob("llm_router_system-*.tar.gz")
    with tarfile.open(source) as tar:
        tops = {member.name.split("/")[1] for member in tar.getmembers()}
    assert {"src", "tests", "Makefile", "pyproject.toml", *TOLD} <= tops
    assert not {top for top in tops if top.startswith((".venv", "dist", ".mypy"))}
