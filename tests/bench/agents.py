"""An agent of the benchmark's own: started, asked, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

AGENTCTL = str(Path(sys.executable).parent / "agentctl")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIG = """
[agent]
id = "bench"
rpc-listen-addr = "none"
var-base-path = "{root}/var"
ipc-base-path = "{root}/run"
[container]
scratch-root = "{root}/scratches"
[plugins]
block = ["accel-cuda"]  # not of the set that is measured
[resource]
reserved-cpu = 0
reserved-mem = 0
[plugin.mock]
file = "{examples}/mock-accelerator.toml"
allocation-mode = "fractional"
"""


def best(tries: int, measure: Callable[[], float]) -> float:
    """Return the least of several measurements, in the unit that `measure` returns."""
    return min(measure() for _ in range(tries))


def row(what: str, measured: str, target: str, *, met: bool, note: str) -> dict[str, object]:
    """Make one row of the table."""
    return {"what": what, "measured": measured, "target": target, "met": met, "note": note}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A configured directory for agents."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name)
        (root / "agent.toml").write_text(CONFIG.format(root=root, examples=EXAMPLES))
        yield root


@contextlib.contextmanager
def agent(
    root: Path, *, inside: Sequence[str] = (), **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent, with more of an environment; it is ended with SIGTERM.

    Args:
        root: Its directory.
        inside: The beginning of its command line, such as what enters another network.
        env: Variables beside those of this process.
    """
    process = subprocess.Popen(
        [*inside, AGENTCTL, "serve", "-f", str(root / "agent.toml")],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def socket(root: Path) -> Path:
    """The agent's RPC socket."""
    return root / "var/bench/agent.sock"


def listens(root: Path) -> bool:
    """Knock, which costs the machine less than a client that tries again and again."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket(root)))
        except OSError:
            return False
    return True


def await_socket(root: Path, deadline: float = 20.0) -> None:
    """Wait until the socket is there, looking every millisecond."""
    end = time.perf_counter() + deadline
    while not listens(root):
        if time.perf_counter() > end:
            raise TimeoutError("the agent did not start")
        time.sleep(0.001)


def resident(pid: int) -> int:
    """Return a process's resident bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
