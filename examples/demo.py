"""The main job on embedded defaults: one agent, one kernel with half a mock GPU, and back again.

Everything shown is what `agentctl` prints; nothing is made up here. State lives in a temporary
directory that is removed at the end. With ``--backend docker`` the kernel is a container of this
machine's engine, of an image that is made on the spot.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
AGENTCTL = str(Path(sys.executable).parent / "agentctl")
COLOR = sys.stdout.isatty()
START_DEADLINE = 30.0
COMMAND_DEADLINE = 60.0

IMAGE = "agent-core-demo:latest"
LABELS = "LABEL ai.backend.runtime-type=python ai.backend.runtime-path=/usr/bin/python3"
SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")

STREAM = """import math, time
for digits in range(1, 6):
    time.sleep(0.3)
    print(f"pi to {digits} digits: {math.pi:.{digits}f}")"""
QUESTION = 'name = input("Who are you? "); print(f"Hello {name}, {6 * 7} is the answer.")'
GPU = 'import os; print("visible:", os.environ["CUDA_VISIBLE_DEVICES"])'
MISTAKE = "def half(x):\n    return x / 0\n\nhalf(42)"
WORK = "data = bytearray(64 << 20); print(sum(i * i for i in range(2_000_000)))"


class Demo:
    """Runs the steps one after the other and remembers how long each took."""

    def __init__(self, directory: Path, engine: Engine | None) -> None:
        self.engine = engine
        self.image = IMAGE if engine else "python"
        self.config = directory / "agent.toml"
        self.config.write_text(_config(directory, engine))
        self.timings: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and time it."""
        number = len(self.timings) + 1
        say(f"\n{number}. {title}", bold=True)
        began = time.perf_counter()
        yield
        self.timings.append((title, time.perf_counter() - began))

    def agentctl(self, *arguments: str, answer: str | None = None, fails: bool = False) -> None:
        """Run one agentctl command as a person would, and show what it prints."""
        say("$ agentctl " + shlex.join(arguments), dim=True)
        done = subprocess.run(
            [AGENTCTL, *arguments, "-f", str(self.config)],
            input=answer,
            text=True,
            timeout=COMMAND_DEADLINE,
            check=False,
        )
        if (done.returncode != 0) is not fails:
            raise SystemExit(f"agentctl {arguments[0]} ended with {done.returncode}")

    def ask(self, *arguments: str) -> object:
        """Run one agentctl command for its JSON."""
        command = [AGENTCTL, *arguments, "--json", "-f", str(self.config)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=True
        )
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def agent(self) -> Iterator[None]:
        """Start the agent; end it as Ctrl-C would."""
        process = subprocess.Popen(
            [AGENTCTL, "serve", "-f", str(self.config)],
            stderr=subprocess.PIPE,
            bufsize=0,  # a line in Python's buffer would be invisible to the selector
        )
        try:
            _await_line(process, "started handling RPC requests")
            yield
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            if process.poll() is None:
                process.kill()
            _remaining(process)

    def run(self) -> None:
        """Show it all."""
        context = contextlib.ExitStack()
        with context:
            if self.engine is not None:
                with self.step("Make an image of nothing: no shell, no Python, no C library"):
                    say("  engine: " + self.engine.version())
                    self.engine.make_image()
                    context.callback(self.engine.remove_image)
            without = "no GPU" if self.engine else "no Docker, no etcd, no Redis, no root, no GPU"
            with self.step(f"Start an agent: {without}"):
                context.enter_context(self.agent())
                self.agentctl("status")
            with self.step("What was loaded, and why"):
                self.agentctl("plugins", "list", "--live")
                self.agentctl("devices", "list")
                self.agentctl("slots")
            with self.step("Create a kernel with one core, 256 MiB and half a (mock) GPU"):
                slots = ["--slot", "cpu=1", "--slot", "mem=256m", "--slot", "cuda.shares=0.5"]
                self.agentctl(
                    "kernels", "create", "--image", self.image, *slots, "--kernel-id", "demo"
                )
            with self.step("Run code in it: what it sees of the GPU"):
                self.agentctl("exec", "demo", "-c", GPU)
            with self.step("Output arrives as it is printed"):
                self.agentctl("exec", "demo", "-c", STREAM)
            with self.step("Code may ask; the answer comes from here"):
                self.agentctl("exec", "demo", "-c", QUESTION, answer="Ada\n")
            with self.step("A mistake shows its traceback, and the kernel goes on"):
                self.agentctl("exec", "demo", "-c", MISTAKE, fails=True)
            with self.step("What it uses"):
                self.agentctl("exec", "demo", "-c", WORK)
                self.agentctl("kernels", "show", "demo")
            with self.step("Destroy it"):
                self.agentctl("kernels", "destroy", "demo")
            with self.step("Nothing is left held"):
                self.agentctl("leaks")
                self.agentctl("slots")
                self.prove_empty()

    def prove_empty(self) -> None:
        """Fail the demo when anything is still held."""
        leaks, kernels, slots = self.ask("leaks"), self.ask("kernels", "list"), self.ask("slots")
        used = [s for s in slots if s["used"] != "0"] if isinstance(slots, list) else [slots]
        if leaks or kernels or used:
            raise SystemExit(f"still held: {leaks} {kernels} {used}")

    def summary(self) -> None:
        """Say how long each step took, and what to type next."""
        say("\nHow long each step took", bold=True)
        for title, seconds in self.timings:
            say(f"  {seconds:6.2f} s  {title}")
        say(f"  {sum(s for _, s in self.timings):6.2f} s  in all")
        say("\nWhat to type next", bold=True)
        activate = shlex.quote(os.path.relpath(Path(sys.executable).parent / "activate"))
        say(f"  . {activate}")
        say("  agentctl serve                                   # in one terminal")
        say("  agentctl kernels create --image python --slot cpu=1 --slot mem=256m   # in another")
        say("  agentctl --help")


class Engine:
    """An engine behind its socket."""

    def __init__(self, path: str | None) -> None:
        self.socket = (path or _by_itself()).removeprefix("unix://")

    def version(self) -> str:
        """Ask which engine it is."""
        said = json.loads(self._ask("GET", "/version"))
        return f"{said['Version']} at {self.socket}"

    def make_image(self) -> None:
        """Import an image with nothing in it but a directory for temporary files.

        It has no shell, no Python and no C library: what runs in it is the runner's own.
        """
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            entry = tarfile.TarInfo("tmp")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        name, tag = IMAGE.split(":")
        query = urllib.parse.urlencode(
            {"fromSrc": "-", "repo": name, "tag": tag, "changes": LABELS}
        )
        self._ask("POST", f"/images/create?{query}", packed.getvalue())

    def remove_image(self) -> None:
        """Remove it again."""
        self._ask("DELETE", f"/images/{IMAGE}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = _Connection(self.socket)
        try:
            connection.request(method, path, body, {"Content-Type": "application/x-tar"})
            answer = connection.getresponse()
            said = answer.read()
        except OSError as exc:
            raise SystemExit(
                f"There is no Docker engine at {self.socket}: {exc.strerror or exc}.\n"
                "Start one, or say where it listens: --host unix:///run/docker.sock."
            ) from exc
        finally:
            connection.close()
        if answer.status >= 400:
            raise SystemExit(f"The engine refused {method} {path}: {said.decode()}")
        return said


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=START_DEADLINE)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(START_DEADLINE)
        self.sock.connect(self._path)


def _by_itself() -> str:
    named = os.environ.get("DOCKER_HOST", "")
    if named.startswith("unix://"):
        return named
    return next((path for path in SOCKETS if Path(path).is_socket()), SOCKETS[0])


def say(text: str, *, bold: bool = False, dim: bool = False) -> None:
    """Print a line of the demo's own."""
    if COLOR and (bold or dim):
        text = f"\x1b[{1 if bold else 2}m{text}\x1b[0m"
    print(text, flush=True)


def _config(directory: Path, engine: Engine | None) -> str:
    """An agent of its own, beside any other on this machine."""
    docker = f'[plugin.docker]\nhost = "unix://{engine.socket}"' if engine else ""
    return f"""
[agent]
id = "demo"
backend = "{"docker" if engine else "process"}"
rpc-listen-addr = "none"
var-base-path = "{directory}/var"
ipc-base-path = "{directory}/run"

[container]
scratch-root = "{directory}/scratches"

[resource]
reserved-cpu = 0

[plugin.mock]
file = "{HERE}/mock-accelerator.toml"
allocation-mode = "fractional"

{docker}
"""


def _await_line(process: subprocess.Popen[bytes], wanted: str) -> None:
    """Show the agent's log until a line with this text."""
    stream = process.stderr
    if stream is None:
        raise SystemExit("the agent's log cannot be read")
    deadline = time.monotonic() + START_DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = stream.readline().decode()
            if not line:
                raise SystemExit("the agent ended before it served; its log is above")
            say("  agent: " + line.rstrip(), dim=True)
            if wanted in line:
                return
    raise SystemExit(f"the agent did not serve within {START_DEADLINE:g} s")


def _remaining(process: subprocess.Popen[bytes]) -> None:
    for line in process.stderr or ():
        say("  agent: " + line.decode().rstrip(), dim=True)


def main() -> int:
    """Run the demo in a directory of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=("process", "docker"), default="process")
    parser.add_argument("--host", help="with docker: the engine's socket, unix:///run/docker.sock")
    options = parser.parse_args()
    engine = Engine(options.host) if options.backend == "docker" else None
    with tempfile.TemporaryDirectory(prefix="agent-demo-") as directory:
        demo = Demo(Path(directory), engine)
        demo.run()
        demo.summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
