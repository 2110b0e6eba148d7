"""Where the documentation's commands are run: each machine of a page is a home of its own, on loopback.

What a page calls by name is put in place of the name: the router's address, the join token (`TOKEN`), a key (`KEY`),
the database of replicas.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from tests.docs.pages import FIRST, Step
from tests.system.harness import COMMAND, LOOK, START, eventually

ROUTER = re.compile(r"(?:127\.0\.0\.1|atlas|router\.example):8080")
DATABASE = "postgresql+asyncpg://user:password@host/database"
SHELL = ["bash", "-c"]
PATIENCE = 30.0  # seconds until a block shows what it is to show
OURS = re.compile(r"LLM_|OLLAMA_|OPENAI_|ANTHROPIC_|HF_|ROUTER_URL$|\w+_PROXY$", re.IGNORECASE)


class Sandbox:
    """A few machines. `close` ends what still runs on them."""

    def __init__(self, directory: Path, port: int, database: str = "") -> None:
        self._directory = directory
        self._database = database
        self._address = f"127.0.0.1:{port}"
        self._port = port
        self._running: dict[str, tuple[subprocess.Popen[bytes], Step]] = {}
        self._bin = directory / "bin"
        self._bin.mkdir()
        command = self._bin / "llm-router"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        command.chmod(0o755)

    def do(self, step: Step) -> None:
        """Run a step as its page says."""
        if step.ends:
            self._end(step.ends)
        elif step.stays and step.on not in self._running:
            self._begin(step)
        elif step.stays:
            self._is_there(step)
        elif step.shows:
            eventually(lambda: step.shows in self._said(step), PATIENCE)
        else:
            self._typed(step)

    def close(self) -> None:
        for machine in list(self._running):
            self._end(machine)

    def _typed(self, step: Step) -> None:
        done = self._run(step)
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"
        if step.language == "console":
            assert like(_output(step.text)).fullmatch(done.stdout), f"{step.text}\n{done.stdout}"

    def _said(self, step: Step) -> str:
        done = self._run(step)
        return done.stdout + done.stderr

    def _run(self, step: Step) -> subprocess.CompletedProcess[str]:
        text = self._named(step.text)
        command = [sys.executable, "-c", text] if step.language == "python" else [*SHELL, self._script(step, text)]
        place, told = self._home(step.on), self._environment(step.on)
        return subprocess.run(command, env=told, cwd=place, capture_output=True, text=True, timeout=START, check=False)

    def _script(self, step: Step, text: str) -> str:
        """The block as a terminal has it in which the ones before it were typed: with what they exported."""
        if step.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        return f"{self._before(step.on)}{text}\nexport -p > {self._exported(step.on)}\n"

    def _before(self, machine: str) -> str:
        return f"set -eu\n[ ! -e {self._exported(machine)} ] || . {self._exported(machine)}\n"

    def _exported(self, machine: str) -> str:
        return shlex.quote(str(self._home(machine) / "exported"))

    def _begin(self, step: Step) -> None:
        log = self._directory / f"{step.on}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*SHELL, self._before(step.on) + f"exec {self._named(step.text)}"],
                env=self._environment(step.on),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running[step.on] = process, step
        deadline = time.monotonic() + START
        while step.stays not in (said := log.read_text(errors="replace")):  # it may be in the middle of a character
            assert process.poll() is None, f"{step.text}\n{said}"
            assert time.monotonic() < deadline, f"{step.text}\n{said}"
            time.sleep(LOOK)

    def _is_there(self, step: Step) -> None:
        """What runs already need not be started for another page."""
        _, running = self._running[step.on]
        assert running.text.strip() == step.text.strip()

    def _end(self, machine: str) -> None:
        """As Ctrl-C, and wait for it."""
        process, _ = self._running.pop(machine)
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _named(self, text: str) -> str:
        text = ROUTER.sub(self._address, text).replace(DATABASE, self._database)
        if "TOKEN@" in text:
            text = text.replace("TOKEN@", f"{self._token()}@")
        return re.sub(r"\bKEY\b", lambda _: self._key(), text)

    def _token(self) -> str:
        return str(msgspec.json.decode(self._ask("join", "--json"))["token"])

    def _key(self) -> str:
        """A key of whoever reads this page; another one each time."""
        return self._ask("keys", "create", "--name", f"reader-{time.monotonic_ns()}").strip()

    def _ask(self, *arguments: str) -> str:
        return self._run(Step("sh", shlex.join(["llm-router", *arguments]))).stdout

    def _home(self, machine: str) -> Path:
        home = self._directory / machine
        home.mkdir(exist_ok=True)
        return home

    def _environment(self, machine: str) -> dict[str, str]:
        home = str(self._home(machine))
        kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
        own = {
            "HOME": home,
            "LLM_ROUTER_HOME": home,
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "COLUMNS": "120",
            "LLM_ROUTER_HOST": "127.0.0.1",
            "LLM_ROUTER_PORT": str(self._port),
            "LLM_ROUTER_ANNOUNCE": "false",  # other tests look for routers in the network
            "LLM_NODE_PORT": "0",
            "LLM_NODE_CONTEXT": "512",
            "LLM_NODE_THREADS": "1",
        }
        return kept | own | ({"ROUTER_URL": f"http://{self._address}"} if machine == FIRST else {})


def _output(text: str) -> str:
    """What a terminal shows beside what is typed."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("$ "))


def like(text: str) -> re.Pattern[str]:
    """Output as a page shows it, where `…` stands for anything."""
    return re.compile(".*".join(map(re.escape, text.split("…"))), re.DOTALL)
