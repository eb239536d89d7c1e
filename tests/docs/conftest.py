"""Plays a page of the documentation: its files are written, its commands are run and compared.

Blocks of one page share a directory, in which the checkout's ``examples`` are, and the agents that
the page starts. In the order of the page:

- a block with a title is written to the file of that name;
- ``toml`` is parsed, and checked as a configuration unless its title says that it is another file;
- ``python`` without a title is run as a script;
- ``console`` runs every line that begins with ``$``; what follows is what must be printed, where
  ``...`` stands for any words. ``agentctl serve`` stays in the background, unless it is shown to
  fail.

A comment before a block says how it differs: ``<!-- test: skip REASON -->`` leaves it out,
``<!-- test: exits N -->`` expects that exit code, ``<!-- test: stop -->`` ends the agent that was
started last before the block is run, ``<!-- test: port N -->`` lets that port be any free one.
"""

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_core.config.loader import load

DEADLINE = 45.0
OTHER_TOML = {"pyproject.toml", "mock-accelerator.toml", "bad-day.toml"}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_BLOCK = re.compile(
    r"(?P<marks>(?:<!-- test: [^>]* -->\n)*)"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- test: (\w+)(?: ([^>]*?))? -->")


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    line: int
    marks: dict[str, str]


def blocks_of(page):
    """Every fenced block of a page."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        marks = {name: value or "" for name, value in _MARK.findall(match["marks"])}
        line = text.count("\n", 0, match.start("text"))
        yield Block(match["language"], match["title"] or "", match["text"], line, marks)


def commands_of(text):
    """Each command of a console block with the output that is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def looks_like(shown, printed):
    """Whether the words that were printed are those that are shown."""
    words = [
        r"(?:\S+ )*" if word == "..." else re.escape(word).replace(r"\.\.\.", r"\S*") + " "
        for word in shown.split()
    ]
    return re.fullmatch("".join(words), "".join(f"{word} " for word in printed.split())) is not None


class Reader:
    """Somebody who follows one page to the letter."""

    def __init__(self, root):
        self.root = root
        self.work = root / "w"
        self.ports = {}
        self.inside = []
        self._agents = []
        self._make_places()

    def _make_places(self):
        for name in ("w", "bin", "site", "home"):
            (self.root / name).mkdir()
        (self.work / "examples").symlink_to(EXAMPLES)
        # What a reader installs must not get into the environment that the tests run in.
        offline = "--no-deps --no-build-isolation --disable-pip-version-check -q --upgrade"
        pip = (
            f'shift; exec {sys.executable} -m pip install {offline} --target {self.root}/site "$@"'
        )
        self._program("pip", pip)
        self._program("python3", f'exec {sys.executable} "$@"')
        path = [str(self.root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENT_", "BACKEND_"))}
        self.env = {
            **kept,
            "PATH": ":".join(path),
            "HOME": str(self.root / "home"),
            "PYTHONPATH": str(self.root / "site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_STATE_HOME": str(self.root / "home"),
            "XDG_RUNTIME_DIR": str(self.root / "home"),
        }

    def _program(self, name, script):
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def move_to(self, engine, ports):
        """Sit on the node of a Docker engine, where these ports of the page are others."""
        self.inside = engine.inside
        self.env["DOCKER_HOST"] = f"unix://{engine.socket}"
        self.ports.update(ports)

    def play(self, page):
        """Follow the page from top to bottom; returns how many blocks were played."""
        played = 0
        for block in blocks_of(page):
            where = f"{page.name}:{block.line}"
            if "skip" in block.marks:
                assert block.marks["skip"], f"{where}: a skip needs a reason"
                continue
            if "port" in block.marks:
                self.ports[block.marks["port"]] = str(_free_port())
            if "stop" in block.marks:
                self.end(self._agents.pop())
            played += self._play(block, where)
        return played

    def _play(self, block, where):
        text = self._with_ports(block.text)
        path = self.work / block.title
        if block.title:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if block.language == "console":
            for command, shown in commands_of(text):
                self._run(command, shown, int(block.marks.get("exits", 0)), where)
        elif block.language == "python":
            self._python(block, text, where)
        elif block.language == "toml":
            self._toml(block, text, where)
        elif block.language == "json":
            json.loads(text)
        else:
            return 0
        return 1

    def _python(self, block, text, where):
        compile(text, where, "exec")
        if not block.title:
            done = self._subprocess([sys.executable, "-c", text])
            assert done.returncode == 0, f"{where}:\n{done.stdout}"

    def _toml(self, block, text, where):
        tomllib.loads(text)
        if Path(block.title).name in OTHER_TOML:
            return
        path = self.work / block.title if block.title else self.root / "snippet.toml"
        path.write_text(text)
        loaded = load(path, environ={"HOME": self.env["HOME"]})
        assert not loaded.warnings, f"{where}: {loaded.warnings}"

    def _run(self, command, shown, code, where):
        if "agentctl serve" in command and not code:
            printed, returned = self._serve(command), 0
        else:
            done = self._subprocess([*self.inside, "bash", "-c", command])
            printed, returned = done.stdout, done.returncode
        report = f"{where}: $ {command}\nexit code {returned}, and it printed:\n{printed}"
        assert returned == code, report
        quiet = command.startswith("pip ")
        assert quiet or looks_like(shown, printed), f"{report}\nthe page shows:\n{shown}"

    def _subprocess(self, command):
        return subprocess.run(
            command,
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def _with_ports(self, text):
        for shown, real in self.ports.items():
            text = text.replace(shown, real)
        return text

    # ---- agents ----

    def _serve(self, command):
        process = subprocess.Popen(
            [*self.inside, "bash", "-c", f"exec {command}"],
            cwd=self.work,
            env=self.env,
            stderr=subprocess.PIPE,
        )
        self._agents.append(process)
        log = _read_until(b"started handling RPC requests", process.stderr.fileno())
        assert "started handling" in log, log
        return log

    def end(self, process):
        """End one agent as Ctrl-C would."""
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, rest

    def leave(self):
        """End every agent, then what their kernels have left, and remove everything."""
        while self._agents:
            with contextlib.suppress(Exception):
                self.end(self._agents.pop())
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def _processes(self):
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    if str(self.root).encode() in words:
                        found.append(int(entry.name))
        return found


def _read_until(wanted, descriptor):
    """Read a log until a whole line has these words, the writer has ended, or time is up."""
    # Not by lines: what is in a buffer already would not wake the selector again.
    log, deadline = b"", time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not (wanted in log and log.endswith(b"\n")):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                break
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                break
            log += chunk
    return log.decode()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def reader():
    """A reader with an empty directory whose path is short, since sockets' paths are bounded."""
    reader = Reader(Path(tempfile.mkdtemp(prefix="doc-")))
    yield reader
    reader.leave()


@pytest.fixture
def blocks():
    """What finds the blocks of a page."""
    return blocks_of


@pytest.fixture
def words():
    """What compares the words shown with the words printed."""
    return looks_like
