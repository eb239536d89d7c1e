"""The event loop: descriptors, timers and signals, in one thread."""

from __future__ import annotations

import os
import select
import time

from agent_kernel_runner.daemon.journal import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDED = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """One call in the future."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call; does nothing when it was made."""
        self.callback = None


class Loop:
    """Calls back when something is readable, writable, due or signalled."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._signals: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []
        self._wakeup = -1
        self._running = True

    def on_readable(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Call back whenever `fd` can be read; None ends that."""
        self._watch(fd, self._readers, callback)

    def on_writable(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Call back whenever `fd` can be written; None ends that."""
        self._watch(fd, self._writers, callback)

    def _watch(
        self, fd: int, side: dict[int, Callable[[], None]], callback: Callable[[], None] | None
    ) -> None:
        known = fd in self._readers or fd in self._writers
        if callback is None:
            side.pop(fd, None)
        else:
            side[fd] = callback
        mask = (select.EPOLLIN if fd in self._readers else 0) | (
            select.EPOLLOUT if fd in self._writers else 0
        )
        if mask and known:
            self._epoll.modify(fd, mask)
        elif mask:
            self._epoll.register(fd, mask)
        elif known:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once, after so many seconds."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call back, from the loop, whenever the signal arrives."""
        import signal

        if not self._signals:
            self._wakeup, writer = os.pipe()
            os.set_blocking(self._wakeup, False)
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self.on_readable(self._wakeup, self._signalled)
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)

    def _signalled(self) -> None:
        for number in set(os.read(self._wakeup, 4096)):
            if number in self._signals:
                self._signals[number]()

    def stop(self) -> None:
        """Let `run` return."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop` is called; a callback that fails is noted and the loop goes on."""
        while self._running:
            for fd, events in self._epoll.poll(self._pause()):
                if events & (select.EPOLLIN | _ENDED):
                    self._guard(self._readers.get(fd))
                if events & (select.EPOLLOUT | _ENDED):
                    self._guard(self._writers.get(fd))
            self._fire()

    def _pause(self) -> float | None:
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        if not self._timers:
            return None
        return max(0.0, min(timer.when for timer in self._timers) - time.monotonic())

    def _fire(self) -> None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.when <= now]
        for timer in sorted(due, key=lambda timer: timer.when):
            callback, timer.callback = timer.callback, None
            self._guard(callback)

    @staticmethod
    def _guard(callback: Callable[[], None] | None) -> None:
        if callback is None:
            return
        try:
            callback()
        except Exception:  # noqa: BLE001 - a defect in one callback must not end the kernel
            import traceback

            note("a defect of the runner: " + traceback.format_exc())
