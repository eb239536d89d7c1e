"""A Docker engine of the tests' own.

It has its own network and mount namespace, its own containerd, data, sockets and pid file, so that
the machine's engine, where there is one, sees nothing of it. The namespaces go with its last
process; what is left in the directory is removed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Self

PROGRAMS = ("dockerd", "containerd", "docker", "runc", "iptables", "ip", "unshare", "nsenter")
START_DEADLINE = 60.0
END_DEADLINE = 30.0
BUSYBOX = "busybox:latest"
APPLETS = "sh ls cat echo sleep env id kill mkdir setsid touch true false pwd dd stat nc wget httpd"
EMPTY = "empty:latest"

_CONTAINERD = """
version = 2
root = "{root}/containerd"
state = "{root}/containerd-state"
[grpc]
address = "{root}/containerd.sock"
"""
_NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "slave"]


@functools.cache
def without_docker() -> str | None:
    """Say why no Docker engine can be started here; None when one can."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if lacking:
        return f"there is no {', '.join(lacking)}: apt-get install docker.io iptables iproute2"
    if not Path("/bin/busybox").exists():
        return "there is no /bin/busybox: apt-get install busybox-static"
    tried = [*_NAMESPACES, "true"]
    if os.geteuid() or subprocess.run(tried, check=False, capture_output=True).returncode:
        return "namespaces for an engine are not permitted here"
    return None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Engine:
    """One engine: started, asked by its command line, hung, stopped, killed and started again.

    Args:
        disk: The size of a disk of its own, such as 64m.
        daemon: What its configuration says.
    """

    def __init__(self, disk: str | None = None, **daemon) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="engine-"))
        (self.root / "data").mkdir()
        self.socket = self.root / "docker.sock"
        self.daemon = daemon
        self._disk = disk
        self._holder: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # ---- its life ----

    def start(self) -> Engine:
        """Start all of it and import the images."""
        try:
            self._hold_namespaces()
            self._start_containerd()
            self.start_dockerd()
            self.import_image(BUSYBOX, busybox())
        except BaseException:
            self.end()
            raise
        return self

    def _hold_namespaces(self) -> None:
        """Keep the namespaces: by a process of its own they outlive both daemons."""
        disk = f"mount -t tmpfs -o size={self._disk} none {self.root}/data &&" if self._disk else ""
        script = f"{disk} ip link set lo up && echo up && exec sleep infinity"
        self._holder = subprocess.Popen(
            [*_NAMESPACES, "sh", "-c", script], stdout=subprocess.PIPE, env=self._env()
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n", "there is no loopback device"

    @property
    def inside(self) -> list[str]:
        """The beginning of a command that shall run in the engine's network."""
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def _within(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        assert self._holder is not None
        into = [*self.inside, f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        with (self.root / log).open("ab") as file:
            return subprocess.Popen([*into, *command], stdout=file, stderr=file, env=self._env())

    def _start_containerd(self) -> None:
        config = self.root / "containerd.toml"
        config.write_text(_CONTAINERD.format(root=self.root))
        self._containerd = self._within(["containerd", "-c", str(config)], "containerd.log")
        self._await(self.root / "containerd.sock", self._containerd)

    def start_dockerd(self) -> None:
        """Start the engine's daemon, which may have run before."""
        (self.root / "daemon.json").write_text(json.dumps(self.daemon))
        command = [
            "dockerd", "--host", f"unix://{self.socket}", "--config-file",
            str(self.root / "daemon.json"), "--data-root", str(self.root / "data"), "--exec-root",
            str(self.root / "exec"), "--pidfile", str(self.root / "docker.pid"), "--containerd",
            str(self.root / "containerd.sock"),
        ]  # fmt: skip
        (self.root / "docker.pid").unlink(missing_ok=True)
        self._dockerd = self._within(command, "dockerd.log")
        self._await(self.socket, self._dockerd)
        self.docker("version")

    def _await(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers(socket):
            assert process.poll() is None, self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)  # a daemon tells nobody when it listens

    def _answers(self, socket: Path) -> bool:
        if not socket.exists():
            return False
        if socket != self.socket:
            return True
        return self._docker("version").returncode == 0

    def logs(self) -> str:
        """What the daemons said last."""
        logs = sorted(self.root.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)

    def stop_dockerd(self, number: int = signal.SIGTERM) -> None:
        """End the engine's daemon by a signal."""
        assert self._dockerd is not None
        self._dockerd.send_signal(number)
        self._dockerd.wait(END_DEADLINE)

    def hang(self) -> None:
        """Let the daemon stand still: it takes connections and never answers."""
        assert self._dockerd is not None
        self._dockerd.send_signal(signal.SIGSTOP)
        # Its threads go on for a moment; this returns when the last of them stands.
        os.waitid(os.P_PID, self._dockerd.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let the daemon go on."""
        assert self._dockerd is not None
        self._dockerd.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it with all its containers, and remove its directory."""
        for daemon in (self._dockerd, self._containerd):
            _end(daemon)
        for pid in self._shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _end(self._holder, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def _shims(self) -> list[int]:
        """What containerd leaves behind: the shims and their containers' first processes."""
        mark = str(self.root / "containerd.sock").encode()
        shims = [pid for pid, words in _commands() if mark in words and b"shim" in words]
        return [*(child for shim in shims for child in _children(shim)), *shims]

    # ---- asking it ----

    def _env(self) -> dict[str, str]:
        return {**os.environ, "PATH": _path(), "DOCKER_CONFIG": str(self.root / "client")}

    def _docker(self, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess:
        command = ["docker", "--host", f"unix://{self.socket}", *words]
        return subprocess.run(
            command, input=given, capture_output=True, check=False, timeout=60, env=self._env()
        )

    def docker(self, *words: str, given: bytes | None = None) -> str:
        """Run docker's command line against it."""
        done = self._docker(*words, given=given)
        assert done.returncode == 0, (words, done.stderr.decode(), self.logs())
        return done.stdout.decode().strip()

    def run_inside(self, *words: str, **options) -> subprocess.CompletedProcess:
        """Run a command in the engine's network."""
        return subprocess.run(
            [*self.inside, *words], capture_output=True, check=False, timeout=60, **options
        )

    def import_image(self, name: str, tar: bytes, *changes: str) -> None:
        """Make an image of a tar archive, with instructions such as ``LABEL a=b``."""
        words = [word for change in changes for word in ("--change", change)]
        self.docker("import", *words, "-", name, given=tar)

    def names(self) -> list[str]:
        """The names of all its containers."""
        return self.docker("ps", "--all", "--format", "{{.Names}}").split()


@functools.cache
def busybox() -> bytes:
    """The smallest image with a shell: Debian's static busybox and links to it, no C library."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for directory in ("bin", "etc", "root", "home", "opt", "run"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
        tar.add("/bin/busybox", "bin/busybox")
        for applet in APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        users = b"root:x:0:0:root:/root:/bin/sh\nwork:x:1000:1000:work:/home/work:/bin/sh\n"
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(users)
        tar.addfile(passwd, io.BytesIO(users))
    return packed.getvalue()


def _end(process: subprocess.Popen[bytes] | None, number: int = signal.SIGTERM) -> None:
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
    try:
        process.wait(END_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_DEADLINE)
    if process.stdout is not None:
        process.stdout.close()


def _commands():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
