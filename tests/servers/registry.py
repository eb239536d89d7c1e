"""An image registry of the tests' own: Debian's docker-registry, open or with a password."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "alice", "open-sesame"
# bcrypt of PASSWORD, made by `htpasswd -nbB`: making one here would need a library for it.
_HTPASSWD = f"{USER}:$2y$05$8exG2rDaCymspd/XazWELevk6qPXtJ2An0NkpUhn3hwRlHwZeZxCi\n"
START_DEADLINE = 20.0

_CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_AUTH = """
auth: {{htpasswd: {{realm: tests, path: {root}/htpasswd}}}}
"""


@functools.cache
def without_registry() -> str | None:
    """Say why no registry can be started here; None when one can."""
    if not shutil.which("docker-registry"):
        return "there is no docker-registry: apt-get install docker-registry"
    return None


class Registry:
    """One registry on the loopback address of an engine's network."""

    def __init__(self, engine, *, private: bool = False) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="registry-"))
        self.port = _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._engine = engine
        self._private = private
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Registry:
        """Start it and wait until it answers."""
        text = _CONFIG + (_AUTH if self._private else "")
        config = self.root / "config.yml"
        config.write_text(text.format(root=self.root, port=self.port))
        (self.root / "htpasswd").write_text(_HTPASSWD)
        command = [*self._engine.inside, "docker-registry", "serve", str(config)]
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE
        while not self._listens():
            assert self._process.poll() is None, (self.root / "log").read_text()
            assert time.monotonic() < deadline, (self.root / "log").read_text()
            time.sleep(0.02)  # it tells nobody when it listens
        return self

    def _listens(self) -> bool:
        probe = f"import socket; socket.create_connection(('127.0.0.1', {self.port}), 1)"
        return self._engine.run_inside("python3", "-c", probe).returncode == 0

    def hang(self) -> None:
        """Let it stand still: it takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def end(self) -> None:
        """End it and remove what it kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
        shutil.rmtree(self.root, ignore_errors=True)

    def fill(self, name: str, source: str) -> str:
        """Push an image of the engine there under a name, drop it locally, return the name."""
        full = f"{self.address}/{name}"
        if self._private:
            self._engine.docker(
                "login", "--username", USER, "--password-stdin", self.address,
                given=PASSWORD.encode(),
            )  # fmt: skip
        self._engine.docker("tag", source, full)
        self._engine.docker("push", full)
        self._engine.docker("rmi", full)
        return full


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
