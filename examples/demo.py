"""The main job on embedded defaults: one agent, one kernel with half a mock GPU, and back again.

Everything shown is what `agentctl` prints; nothing is made up here. State lives in a temporary
directory that is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
AGENTCTL = str(Path(sys.executable).parent / "agentctl")
COLOR = sys.stdout.isatty()
START_DEADLINE = 30.0
COMMAND_DEADLINE = 60.0

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

    def __init__(self, directory: Path) -> None:
        self.config = directory / "agent.toml"
        self.config.write_text(_config(directory))
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
            with self.step("Start an agent: no Docker, no etcd, no Redis, no root, no GPU"):
                context.enter_context(self.agent())
                self.agentctl("status")
            with self.step("What was loaded, and why"):
                self.agentctl("plugins", "list", "--live")
                self.agentctl("devices", "list")
                self.agentctl("slots")
            with self.step("Create a kernel with one core, 256 MiB and half a (mock) GPU"):
                slots = ["--slot", "cpu=1", "--slot", "mem=256m", "--slot", "cuda.shares=0.5"]
                self.agentctl(
                    "kernels", "create", "--image", "python", *slots, "--kernel-id", "demo"
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


def say(text: str, *, bold: bool = False, dim: bool = False) -> None:
    """Print a line of the demo's own."""
    if COLOR and (bold or dim):
        text = f"\x1b[{1 if bold else 2}m{text}\x1b[0m"
    print(text, flush=True)


def _config(directory: Path) -> str:
    """An agent of its own, beside any other on this machine."""
    return f"""
[agent]
id = "demo"
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
    with tempfile.TemporaryDirectory(prefix="agent-demo-") as directory:
        demo = Demo(Path(directory))
        demo.run()
        demo.summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
