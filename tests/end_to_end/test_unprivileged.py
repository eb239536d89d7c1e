"""A whole node of one unprivileged user, in a PID namespace of the test's own.

Nothing in the process backend keeps kernels of one user apart, or from their agent. So what must
hold when code signals every process that it can see is not that nobody notices, but that nothing is
lost, told twice or left over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from agent_core.contracts.errors import AgentError

from .conftest import AGENTCTL, Node

pytestmark = pytest.mark.requires("pidns")

NOBODY = 65534
# An init that reaps, and that code of another user cannot signal.
INIT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True: signal.pause()
"""
# The interpreter may lie where only root can look; no right over other processes is in this.
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
             "--bounding-set=-all,+dac_read_search", "--no-new-privs", "--")  # fmt: skip


class EnclosedNode(Node):
    """A node whose agent and kernels are `nobody`'s, in a PID namespace that ends with the test."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        os.chown(root, NOBODY, NOBODY)
        self.init = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
             sys.executable, "-c", INIT]
        )  # fmt: skip
        self.namespace = ""
        while not self.namespace:
            time.sleep(0.01)
            self.namespace = self._made()

    def _made(self) -> str:
        """Name the namespace once its init runs, and no other."""
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        if not children or INIT.strip() not in _read(children[0], "cmdline"):
            return ""
        self.first = int(children[0])
        made = namespace_of(self.first)
        assert made != namespace_of(os.getpid())
        return made

    def command(self) -> list[str]:
        enter = ["nsenter", "--target", str(self.first), "--pid", "--mount", "--"]
        return [*enter, *AS_NOBODY, AGENTCTL, "serve", "-f", str(self.config)]

    def inside(self) -> list[int]:
        """All living processes of the namespace but its init."""
        found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [p for p in found if p != self.first and namespace_of(p) == self.namespace]

    def signal_all(self, code: str) -> None:
        """Let the hostile kernel do this, where it has made sure that it is shut in."""
        safe = f"import os\nassert os.getuid() == {NOBODY}\n"
        safe += f"assert os.readlink('/proc/self/ns/pid') == {self.namespace!r}\n"
        with contextlib.suppress(AgentError):
            self.run(self.hostile, safe + code, timeout=1)

    def go_on(self) -> None:
        """Continue whatever was stopped; what entered the namespace stops with its child."""
        for pid in [*self.inside(), self.process.pid]:
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End everything in the namespace by its init, and nothing else."""
        os.kill(self.first, signal.SIGKILL)
        if self.process is not None:  # it stops with its child, and must see that end
            self.process.send_signal(signal.SIGCONT)
            self.process.communicate(timeout=10)
        self.init.wait(10)


def namespace_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - it is no path
    except OSError:
        return ""


def _read(pid: str, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text().replace("\0", "\n")
    return ""


@pytest.fixture
def enclosed():
    with tempfile.TemporaryDirectory(prefix="n") as root:
        node = EnclosedNode(Path(root))
        try:
            node.start()
            node.hostile, node.honest = node.create(), node.create()
            yield node
        finally:
            node.close()


def test_a_kernel_that_kills_all_it_can_see_is_found_out_by_the_next_agent(enclosed):
    enclosed.signal_all("import signal; os.kill(-1, signal.SIGKILL); import time; time.sleep(600)")
    assert enclosed.wait() != 0
    enclosed.start()
    kernels = (enclosed.hostile, enclosed.honest)
    for kernel in kernels:
        row = enclosed.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
        assert (row.state, row.exit_code) == ("TERMINATED", None)
        told = Counter(event.name for event in enclosed.events(kernel))
        assert told["kernel.terminated"] == told["kernel.running"] == 1
    enclosed.clean()
    assert len(enclosed.inside()) == 1  # the agent
    fresh = enclosed.create()
    assert enclosed.run(fresh, "print('works')")[0] == "works\n"


def test_after_a_kernel_has_stopped_all_it_can_see_everything_goes_on_when_continued(enclosed):
    enclosed.run(enclosed.honest, "x = 41")
    stopping = "import signal; os.kill(-1, signal.SIGSTOP)"
    hostile = threading.Thread(target=enclosed.signal_all, args=[stopping])
    hostile.start()
    while sum(" (stopped)" in _read(str(pid), "status") for pid in enclosed.inside()) < 5:
        time.sleep(0.01)  # the agent, two shims, and two runners
    enclosed.go_on()
    hostile.join(30)
    assert enclosed.run(enclosed.honest, "print(x + 1)")[0] == "42\n"
    for kernel in (enclosed.hostile, enclosed.honest):
        assert enclosed.destroy(kernel).reason == "user-requested"
    enclosed.clean()


def test_what_code_has_locked_and_nested_is_removed_all_the_same(enclosed):
    code = """
import os
words = open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')
for place in ('.', next(w.split('=')[1] for w in words if w.startswith('run_dir='))):
    os.chdir(place)
    for _ in range(1500):
        os.mkdir('d')
        open('f', 'w').close()
        os.chmod('f', 0)
        os.chdir('d')
    for _ in range(1500):
        os.chdir('..')
        os.chmod('d', 0)
"""
    _, said, result = enclosed.run(enclosed.hostile, code)
    assert (said, result.exit_code) == ("", 0)
    enclosed.destroy(enclosed.hostile)
    enclosed.destroy(enclosed.honest)
    enclosed.clean()
