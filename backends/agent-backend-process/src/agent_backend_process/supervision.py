"""The shim's work: one container's main process, from its start to the end of all it left behind.

The shim is a session leader and a child subreaper: whatever a process of the container does,
its orphans become the shim's children. It reads the output into a bounded log, obeys the control
pipe (``stop SECONDS`` and ``kill``), and when the main process ends it kills what is left and only
then records the exit. It does not care whether an agent lives.

The order at the start: lock, fork, subreaper, identity on disk, and only then may the child become
the main process. So no code of a user ever runs unknown.
"""

# pathlib doubles the time that the shim takes to start.
# ruff: noqa: PTH110, PTH116, PTH208
from __future__ import annotations

# The module `signal` imports enum, which is half of the shim's start.
import _signal  # type: ignore[import-not-found]
import errno
import fcntl
import os
import select
import sys
import time

from agent_backend_process import processes, records
from agent_backend_process.launch import Launch
from agent_backend_process.logring import LogRing

REPORT_FD = 3
"""Where the shim answers once: ``ok PID``, ``failed STAGE ERRNO``, ``busy`` or ``over``."""

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 1 << 16
_KILL_PERIOD_MS = 50
_IGNORED = (processes.SIGHUP, processes.SIGINT, processes.SIGTERM)
_RESET = {*range(1, 32)} - {processes.SIGKILL, processes.SIGSTOP}
"""What code finds as it is everywhere, also where the agent was started in the background."""


def main(directory: str) -> None:
    """Run one container to its end; never returns."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > REPORT_FD:
            _close(fd)
    os.set_inheritable(REPORT_FD, False)
    os.chdir("/")
    os.setsid()
    report = _Refused(b"over")
    try:
        Supervision(directory).run()
    except _Refused as refusal:
        report = refusal
    _say(report.answer)
    os._exit(0)


class _Refused(Exception):
    """Raised when this container is not this shim's to start."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer


def _say(answer: bytes) -> None:
    """Answer the agent, once; an agent that is gone need not know."""
    try:
        os.write(REPORT_FD, answer + b"\n")
        os.close(REPORT_FD)
    except OSError:
        return


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


class Supervision:
    """The life of one container."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = self._take_lock()
        self._launch = Launch.decode(processes.read_file(self._path(records.LAUNCH)) or b"")
        self._log = LogRing(self._path(records.LOG), self._launch.log_limit)
        self._control = os.open(self._path(records.CONTROL), os.O_RDWR | os.O_NONBLOCK)
        self._wake, self._waker = os.pipe()
        self._output, self._child_output = os.pipe()
        self._poll = select.poll()
        self._main = 0
        self._status: int | None = None
        self._childless = False
        self._killing = False
        self._deadline: float | None = None

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _take_lock(self) -> int:
        """Hold the container's lock for life; it also says that the container was never started."""
        path = self._path(records.LOCK)
        try:
            fd = os.open(path, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            removed = os.stat(path).st_ino != os.fstat(fd).st_ino
        except BlockingIOError:
            raise _Refused(b"busy") from None
        except FileNotFoundError:
            raise _Refused(b"over") from None
        ran = any(os.path.exists(self._path(name)) for name in (records.IDENTITY, records.EXIT))
        if removed or ran:
            raise _Refused(b"over")
        return fd

    def run(self) -> None:
        """Start the main process, watch it to its end, and end what it leaves behind."""
        self._listen()
        failure = self._start()
        if not failure:
            _say(b"ok %d" % self._main)
        while self._status is None and not self._killing:
            self._serve(self._time_left())
        self._end_all()
        self._drain()
        self._record_exit(failure)
        if failure:
            raise _Refused(b"failed " + failure)
        os._exit(0)

    def _listen(self) -> None:
        for signal in _IGNORED:
            _signal.signal(signal, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        for fd in (self._wake, self._waker, self._output):
            os.set_blocking(fd, False)
        _signal.signal(processes.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for fd in (self._wake, self._output, self._control):
            self._poll.register(fd, select.POLLIN)

    # -- the start ---------------------------------------------------------------------------

    def _start(self) -> bytes:
        """Fork the main process; returns the stage and errno of what hindered it, or nothing."""
        gate, opener = os.pipe()
        failed, failing = os.pipe()
        self._main = os.fork()
        if not self._main:
            os.close(opener)
            self._become_main(gate, failing)
        for fd in (gate, failing, self._child_output):
            os.close(fd)
        # The child joins its cgroups meanwhile, which takes as long as the import does.
        _become_subreaper()
        self._record_identity()
        os.write(opener, b"g")
        os.close(opener)
        failure = os.read(failed, 100)
        os.close(failed)
        return failure

    def _record_identity(self) -> None:
        pids = (os.getpid(), self._main)
        starts = [processes.status(pid) or ("", 0) for pid in pids]
        shim, child = ((pid, start[1]) for pid, start in zip(pids, starts, strict=True))
        record = records.identity_record(shim, child, processes.boot_id())
        records.replace_file(self._path(records.IDENTITY), record)

    def _become_main(self, gate: int, failing: int) -> None:
        stage = b"start"
        try:
            for stage, act in self._preparations(gate):  # noqa: B007 - told when an act fails
                act()
            stage = b"exec"
            env = dict(item.split(b"=", 1) for item in self._launch.env)
            os.execve(self._launch.argv[0], self._launch.argv, env)  # noqa: S606 - our own list
        except BaseException as exc:  # noqa: BLE001 - a forked child must never unwind
            number = getattr(exc, "errno", None) or errno.EPERM
            os.write(failing, b"%s %d" % (stage, number))
        finally:
            os._exit(127)

    def _preparations(self, gate: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - typing is slow to import
        launch = self._launch
        yield b"session", os.setsid
        yield b"output", self._redirect
        yield b"cgroup", lambda: _join(launch.cgroups)
        yield b"shim", lambda: os.read(gate, 1) or os._exit(127)
        yield b"groups", lambda: _add_groups(launch.groups)
        yield b"cpuset", lambda: _pin(launch.cpus)
        yield b"cwd", lambda: os.chdir(launch.cwd)
        yield b"signals", lambda: [_signal.signal(s, _signal.SIG_DFL) for s in _RESET]
        yield b"rlimits", lambda: _limit(launch.rlimits)

    def _redirect(self) -> None:
        os.dup2(self._child_output, 1)
        os.dup2(self._child_output, 2)

    # -- the life ----------------------------------------------------------------------------

    def _time_left(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def _serve(self, seconds: float | None) -> None:
        """Wait for output, an order or the end of a child, for so long at most."""
        if seconds is not None and seconds <= 0:
            self._killing = True
            return
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if fd == self._output:
                if not self._read_output():  # nobody is left who could write
                    self._poll.unregister(fd)
            elif fd == self._control:
                self._obey(os.read(self._control, _CHUNK))
            else:
                os.read(self._wake, _CHUNK)
        self._reap()

    def _read_output(self) -> bool:
        """Move one chunk of output into the log; False when there is none."""
        try:
            chunk = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        self._log.write(chunk)
        return bool(chunk)

    def _obey(self, orders: bytes) -> None:
        for order in orders.splitlines():
            verb, _, argument = order.partition(b" ")
            if verb == b"kill":
                self._killing = True
            elif verb == b"stop":
                self._stop(argument)

    def _stop(self, grace: bytes) -> None:
        try:
            deadline = time.monotonic() + float(grace)
        except ValueError:
            return
        self._deadline = min(deadline, self._deadline or deadline)
        if self._status is None:
            self._terminate()

    def _terminate(self) -> None:
        """Ask the main process to end: it is ours and not reaped, so no other has its pid."""
        try:
            os.kill(self._main, processes.SIGTERM)
        except PermissionError:  # it has become another user's
            return

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    self._childless = False
                    return
                if pid == self._main:
                    self._status = status
        except ChildProcessError:
            self._childless = True

    # -- the end -----------------------------------------------------------------------------

    def _end_all(self) -> None:
        """Kill what is left until nothing is: no child to wait for, and an empty cgroup."""
        group = os.fsdecode(self._launch.kill_group)
        self._reap()
        while not self._childless or (group and processes.group_members(group)):
            if group:
                processes.kill_group(group)
            processes.kill_trees([os.getpid()], [])
            self._serve_briefly()

    def _serve_briefly(self) -> None:
        self._deadline = None
        self._serve(_KILL_PERIOD_MS / 1000)

    def _drain(self) -> None:
        while self._read_output():
            pass
        self._log.close()

    def _record_exit(self, failure: bytes) -> None:
        status = self._status or 0
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = 128 + signal if signal else os.WEXITSTATUS(status)
        oom = signal == processes.SIGKILL and any(map(_ran_out_of_memory, self._launch.cgroups))
        record = records.exit_record(code, signal, time.time(), oom=oom, failure=failure.decode())
        records.replace_file(self._path(records.EXIT), record)


def _become_subreaper() -> None:
    """Let orphans of the container become the shim's children."""
    import ctypes  # slow; the child is at work meanwhile

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


def _join(groups: list[bytes]) -> None:
    for group in groups:
        fd = os.open(group + b"/cgroup.procs", os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)


def _add_groups(groups: list[int]) -> None:
    if groups:
        os.setgroups(sorted({*os.getgroups(), *groups}))


def _pin(cpus: list[int]) -> None:
    """Run on exactly these cores; the host's kernel would take those that exist in silence."""
    if cpus:
        os.sched_setaffinity(0, cpus)
        if os.sched_getaffinity(0) != set(cpus):
            raise OSError(errno.EINVAL, "not all of these cores may be used")


def _limit(rlimits: dict[int, int]) -> None:
    if rlimits:
        import resource

        for number, value in rlimits.items():
            resource.setrlimit(number, (value, value))


def _ran_out_of_memory(group: bytes) -> bool:
    """Say whether the host's kernel killed something in this group for want of memory."""
    for name in ("memory.events", "memory.oom_control"):
        for line in (processes.read_file(f"{os.fsdecode(group)}/{name}") or b"").splitlines():
            if line.startswith(b"oom_kill ") and line != b"oom_kill 0":
                return True
    return False
