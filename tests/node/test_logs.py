"""The logs of a node (requirement G7): kept, bounded, and shown by `llm-router node logs`."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import structlog
from click.testing import CliRunner, Result

from llm_router.cli import commands
from llm_router.errors import NotFound
from llm_router.gateway.log import configure
from llm_router.node import logs

COMMAND = [sys.executable, "-m", "llm_router", "node", "logs"]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes and terminals of POSIX")


@contextmanager
def logging_to(home: Path, form: logs.Form = "console") -> Iterator[None]:
    """Logging as an agent has it; as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("info", form)
    try:
        with logs.kept(home, form):
            yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


def own(home: Path) -> Path:
    return home / "node" / "logs" / "node.log"


def model_log(home: Path, name: str, text: str) -> Path:
    path = logs.directory(home) / logs.file_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(commands, ["node", "logs", "--home", str(home), *arguments])


# -- keeping


def test_own_log(tmp_path: Path) -> None:
    """What the agent logs, and what its libraries warn of, stands in its log: with date and level, without colours."""
    with logging_to(tmp_path):
        structlog.get_logger().info("node.started", models=["a"])
        structlog.get_logger().debug("request.ended")
        logging.getLogger("aiohttp").warning("odd: %s", "thing")
    first, second = own(tmp_path).read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[info +\] node.started +models=\['a'\]", first)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[warning +\] odd: thing *", second)


def test_own_log_json(tmp_path: Path) -> None:
    """With `--log-format json` each line is an object, exceptions included."""
    with logging_to(tmp_path, "json"):
        try:
            int("why")
        except ValueError:
            structlog.get_logger().exception("x.failed", n=1)
    line = msgspec.json.decode(own(tmp_path).read_bytes())
    assert (line["event"], line["level"], line["n"]) == ("x.failed", "error", 1)
    assert "ValueError: invalid literal" in line["exception"]


@posix_only
def test_private(tmp_path: Path) -> None:
    """Nobody else can read the agent's log, nor what was put aside of any."""
    path = model_log(tmp_path, "m", "x" * (logs.LOG_SIZE + 1))
    path.chmod(0o600)
    logs.bound(path.parent)
    with logging_to(tmp_path):
        for _ in range(3):
            structlog.get_logger().info("x", data="y" * (logs.LOG_SIZE // 2))
    modes = {path.name: path.stat().st_mode & 0o777 for path in own(tmp_path).parent.iterdir()}
    assert modes == dict.fromkeys(["m.log", "m.log.1", "node.log", "node.log.1"], 0o600)


def test_bounded(tmp_path: Path) -> None:
    """The agent's log takes no more than twice its size, however much is logged; the last lines are there."""
    with logging_to(tmp_path):
        for number in range(25):
            structlog.get_logger().info(f"x.{number}", data="y" * (logs.LOG_SIZE // 10))
    sizes = [path.stat().st_size for path in own(tmp_path).parent.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= logs.LOG_SIZE
    assert "x.24 " in own(tmp_path).read_text()


def test_runtimes_bounded(tmp_path: Path) -> None:
    """A runtime's log that has grown too large is put aside; the runtime goes on in the same file, from its start."""
    path = model_log(tmp_path, "m", "")
    small = model_log(tmp_path, "small", "few\n")
    with path.open("ab") as runtime:
        runtime.truncate(logs.LOG_SIZE + 1)
        logs.bound(path.parent)
        runtime.write(b"more\n")
    assert path.read_bytes() == b"more\n"
    assert path.with_name("m.log.1").stat().st_size == logs.LOG_SIZE + 1
    assert small.read_text() == "few\n"


def test_no_log_but_an_agent(tmp_path: Path) -> None:
    """Where nothing can be written, the agent goes on."""
    own(tmp_path).mkdir(parents=True)
    with logging_to(tmp_path):
        structlog.get_logger().info("node.started")


def test_last_words(tmp_path: Path) -> None:
    """Why an agent did not start stands in its log: a service has no terminal to say it on."""
    flags = ["node", "--home", str(tmp_path), "--port", "70000"]
    assert CliRunner().invoke(commands, flags).exit_code == 2
    assert re.search(r"\[error +\] node.failed +reason=.*--port is 70000", own(tmp_path).read_text())


def test_last_words_of_a_fault(tmp_path: Path) -> None:
    """An error of ours that nobody foresaw is there with its traceback."""
    with suppress(ZeroDivisionError), logs.last_words(tmp_path):
        _ = 1 / 0
    assert "ZeroDivisionError: division by zero" in own(tmp_path).read_text()


def test_file_names() -> None:
    """Every model has a log of its own, which is neither the agent's nor Ollama's."""
    ids = ["node", "ollama", "a", "a:b", "a/b", "a/b:c", "a-b", "x/node"]
    files = [logs.file_name(model) for model in ids]
    assert len({*files, "node.log", "ollama.log"}) == len(ids) + 2
    assert not any("/" in file or ":" in file for file in files)  # Windows takes neither


# -- showing


def test_list(tmp_path: Path) -> None:
    """`--list` names the agent's log first, then models by their names."""
    for name in ("org/m:7b", "hello-world", "node"):
        model_log(tmp_path, name, "")
    own(tmp_path).write_text("")
    assert run(tmp_path, "--list").output.splitlines() == ["node", "/node", "hello-world", "org/m:7b"]


def test_show(tmp_path: Path) -> None:
    """The last lines of the agent's log, or of a model's, by the name that it is listed with."""
    model_log(tmp_path, "org/m:7b", "loading\nloaded\n")
    own(tmp_path).write_text("1\n2\n3\n")
    assert run(tmp_path, "-n", "2").output == "2\n3\n"
    assert run(tmp_path, "org/m:7b").output == "loading\nloaded\n"
    assert run(tmp_path, "-n", "0").output == ""


def test_show_what_was_put_aside(tmp_path: Path) -> None:
    """Lines from before the log was put aside are shown where it has too few."""
    own(tmp_path).parent.mkdir(parents=True)
    own(tmp_path).with_name("node.log.1").write_text("1\n2\n")
    own(tmp_path).write_text("3\n")
    assert run(tmp_path, "-n", "2").output == "2\n3\n"


def test_unknown(tmp_path: Path) -> None:
    """Where there is no such log, one line says which there are, with status 1."""
    model_log(tmp_path, "hello-world", "")
    said = run(tmp_path, "hallo")
    assert said.exit_code == 1
    assert said.stderr.endswith("there are: hello-world\n")
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["../identity", "..", "/etc/passwd", "a/../b"])
def test_only_logs(tmp_path: Path, name: str) -> None:
    """A name leads to no other file."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "identity.log").write_text("secret")
    with pytest.raises(NotFound):
        logs.find(tmp_path, name)


def test_follow(tmp_path: Path) -> None:
    """`--follow` goes on with what is written, also once the log was put aside, and emptied."""
    path = model_log(tmp_path, "m", "old\n")
    command = [*COMMAND, "m", "--follow", "--home", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shown:
        try:
            assert shown.stdout
            assert shown.stdout.readline() == "old\n"
            with path.open("a") as file:
                file.write("new, a long line\nand a ")
                file.flush()
                assert shown.stdout.readline() == "new, a long line\n"
                file.write("half\n")
            assert shown.stdout.readline() == "and a half\n"
            path.replace(path.with_name("m.log.1"))
            path.write_text("next\n")
            assert shown.stdout.readline() == "next\n"
            path.write_text("+\n")
            assert shown.stdout.readline() == "+\n"
        finally:
            shown.kill()


def test_terminal(tmp_path: Path) -> None:
    """What a model's file makes its runtime print cannot steer a terminal; text of every script is shown."""
    model_log(tmp_path, "m", "a\x1b[2Jb\tc\x07 漢\n")
    assert run(tmp_path, "m").output == "a[2Jb\tc 漢\n"
