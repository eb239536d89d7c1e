"""Install the built wheels into clean environments and use them from outside the checkout.

python check_wheels.py DIRECTORY_OF_WHEELS CONSTRAINTS
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from email.parser import Parser
from pathlib import Path
from typing import Any

SETS = {
    "everything": [
        "agent-core",
        "agent-backend-process",
        "agent-kernel-runner",
        "scratch-hostdir",
        "accel-mock",
    ],
    "Docker": [
        "agent-core",
        "agent-backend-docker",
        "agent-kernel-runner",
        "scratch-hostdir",
        "accel-cuda",
    ],
    "a simulated node": ["agent-core", "agent-backend-dummy"],
    "the core alone": ["agent-core"],
}
SERVERS = Path(__file__).resolve().parents[1] / "servers"
DEADLINE = 60.0
CONFIG = """
[agent]
id = "wheels"
rpc-listen-addr = "none"
var-base-path = "{root}/var"
ipc-base-path = "{root}/run"
[container]
scratch-root = "{root}/scratches"
[resource]
reserved-cpu = 0
reserved-mem = 0
"""


def check_contents(wheel: Path) -> None:
    """A wheel holds its package, the typing marker and no tests; members bound agent-core."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        headers = Parser().parsestr(archive.read(metadata).decode())
    expect(any(name.endswith("/py.typed") for name in names), f"{wheel.name}: no py.typed")
    strays = [
        n for n in names if n.split("/")[0] in {"tests", "docs", "examples"} or "/tests/" in n
    ]
    expect(not strays, f"{wheel.name}: holds {strays[:3]}")
    requires = headers.get_all("Requires-Dist") or []
    if headers["Name"] != "agent-core":
        ranges = [r.replace(" ", "") for r in requires if r.startswith("agent-core")]
        expect(
            ranges in (["agent-core<0.2,>=0.1"], ["agent-core>=0.1,<0.2"]),
            f"{wheel.name}: {ranges}",
        )


def make_environment(home: Path, wheels: Path, constraints: Path, names: Sequence[str]) -> Path:
    """Make a clean environment with one set of distributions; return its bin directory."""
    venv.create(home, with_pip=True)
    pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    chosen = [str(next(wheels.glob(f"{name.replace('-', '_')}-*.whl"))) for name in names]
    subprocess.run([*pip, "install", "-q", "-c", str(constraints), *chosen], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return home / "bin"


class Installed:
    """agentctl of one environment, used from a directory outside the checkout."""

    def __init__(self, binaries: Path, root: Path) -> None:
        self.command = [str(binaries / "agentctl")]
        self.root = root
        self.config = root / "agent.toml"
        self.config.write_text(CONFIG.format(root=root))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}

    def agentctl(self, *arguments: str, code: int = 0) -> str:
        """Run agentctl and return what it prints."""
        done = subprocess.run(
            [*self.command, *arguments, "-f", str(self.config)],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            cwd=self.root,
            env=self.env,
            check=False,
        )
        expect(done.returncode == code, f"agentctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        """Run agentctl for its JSON."""
        return json.loads(self.agentctl(*arguments, "--json"))

    def serve(self, stack: ExitStack) -> None:
        """Start the agent and wait until it serves."""
        process = subprocess.Popen(
            [*self.command, "serve", "-f", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env=self.env,
        )
        stack.callback(_end, process)
        for line in process.stderr or ():
            if "started handling RPC requests" in line:
                return
        raise SystemExit("the agent from the wheels did not start")


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=15)
    if process.poll() is None:
        process.kill()


def use_everything(installed: Installed) -> None:
    """Run a kernel."""
    states = {p["name"]: p["state"] for p in installed.json("plugins", "list")}
    expect(set(states) >= {"cpu", "mem", "mock", "process", "hostdir", "default"}, str(states))
    with ExitStack() as stack:
        installed.serve(stack)
        created = installed.json("kernels", "create", "--image", "python", "--slot", "cpu=1")
        kernel = created["kernel_id"]
        out = installed.agentctl("exec", kernel, "-c", "print(6 * 7)")
        expect(out.strip() == "42", f"exec printed {out!r}")
        installed.agentctl("kernels", "destroy", kernel)
        expect(installed.json("leaks") == [], "leaks are left")


def use_docker(installed: Installed) -> None:
    """Run a kernel in a container of an engine of our own, of an image with nothing but a shell."""
    names = {p["name"] for p in installed.json("plugins", "list")}
    expect(names == {"cpu", "mem", "cuda", "docker", "hostdir", "default"}, str(names))
    engine = _engines()
    with ExitStack() as stack:
        started = stack.enter_context(engine.Engine())
        installed.command = [*started.inside, *installed.command]
        with installed.config.open("a") as file:
            file.write(f'[plugin.docker]\nhost = "unix://{started.socket}"\n')
        installed.env["AGENT_AGENT__BACKEND"] = "docker"
        installed.serve(stack)
        made = ["kernels", "create", "--image", engine.BUSYBOX, "--slot", "mem=64m"]
        kernel = installed.json(*made)["kernel_id"]
        out = installed.agentctl("exec", kernel, "-c", "echo 42")
        expect(out.strip() == "42", f"exec printed {out!r}")
        installed.agentctl("kernels", "destroy", kernel)
        expect(installed.json("leaks") == [], "leaks are left")
        expect(started.names() == [], "containers are left")


def without_docker() -> str | None:
    """Say why there can be no engine here; ends with that where there must be one."""
    missing: str | None = _engines().without_docker()
    required = os.environ.get("AGENT_TESTS_REQUIRE", "").replace(",", " ").split()
    expect(missing is None or "docker" not in required, f"Docker: {missing}")
    return missing


def _engines() -> Any:
    """Import the engine of the tests without its fixtures, which need pytest."""
    if str(SERVERS) not in sys.path:
        sys.path.insert(0, str(SERVERS))
    return importlib.import_module("engine")


def use_simulated_node(installed: Installed) -> None:
    """Run a kernel that is simulated, with nothing but the dummy backend installed."""
    with installed.config.open("a") as file:
        file.write("[agent.delay]\nclean-kernel = 0.01\n")
    installed.env["AGENT_AGENT__BACKEND"] = "dummy"
    with ExitStack() as stack:
        installed.serve(stack)
        created = installed.json("kernels", "create", "--image", "python", "--slot", "cpu=1")
        installed.agentctl("exec", created["kernel_id"], "-c", "print(6 * 7)")
        installed.agentctl("kernels", "destroy", created["kernel_id"])
        expect(installed.json("leaks") == [], "leaks are left")


def use_core_alone(installed: Installed) -> None:
    """The core alone lists its own plugins, and says what to install to serve."""
    names = {p["name"] for p in installed.json("plugins", "list")}
    expect(names == {"cpu", "mem"}, f"the core alone lists {names}")
    said = installed.agentctl("serve", code=1)
    expect("pip install agent-backend-process" in said, f"no way out in: {said}")


def expect(truth: bool, otherwise: str) -> None:
    """End with a message unless something is true."""
    if not truth:
        raise SystemExit(f"wheels: {otherwise}")


def main(wheels: Path, constraints: Path) -> None:
    """Check every wheel, then use each set."""
    for wheel in sorted(wheels.glob("*.whl")):
        check_contents(wheel)
    uses = {
        "everything": use_everything,
        "Docker": use_docker,
        "a simulated node": use_simulated_node,
        "the core alone": use_core_alone,
    }
    for name, distributions in SETS.items():
        if name == "Docker" and (missing := without_docker()):
            print(f"wheels: {name}: skipped: {missing}")
            continue
        with tempfile.TemporaryDirectory(prefix="wheels-") as directory:
            root = Path(directory)
            binaries = make_environment(root / "env", wheels, constraints, distributions)
            uses[name](Installed(binaries, root))
            print(f"wheels: {name}: works")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
