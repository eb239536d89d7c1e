"""The process that one plugin lives in: loads it and answers calls until its agent is gone.

It is started by `worker_process`, never by hand. Each lane has a socket and a thread of its own, so
that a long control call keeps no measurement waiting. It ends at once when its agent does: by the
signal that the kernel sends, and by the end of the sockets.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from agent_core.contracts.errors import PluginContractBroken, PluginError
from agent_core.contracts.info import Plugin, PluginInfo
from agent_core.contracts.plain import to_plain
from agent_core.host import loader
from agent_core.host.candidates import Candidate
from agent_core.host.channel import LOAD, Channel, Garbled
from agent_core.host.failures import failure, said
from agent_core.host.signatures import signature

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


class Hosted:
    """The plugin of this process."""

    def __init__(self) -> None:
        self._candidate: Candidate | None = None
        self._class: type[Plugin] | None = None
        self._instance: Plugin | None = None

    def answer(self, method: str, arguments: Sequence[Any]) -> tuple[bool, Any]:
        """Do what was asked; true and the reply, or false and the failure, as plain data."""
        try:
            if method == LOAD:
                return True, self._load(*arguments)
            return True, self._call(method, arguments)
        except BaseException as exc:  # noqa: BLE001 - a plugin may raise anything, and the agent shall know
            return False, to_plain(failure(exc, loader.traceback_text(exc)))

    def _load(self, fields: Sequence[Any], deadline: float) -> dict[str, Any]:
        self._candidate = Candidate(*fields)
        loaded = loader.load(self._candidate, deadline)
        self._class = loaded.plugin_class
        return {
            "class_name": loaded.plugin_class.__name__,
            "load_ms": loaded.load_ms,
            "info": self._plain("info", loaded.info),
        }

    def _call(self, method: str, plain: Sequence[Any]) -> Any:
        if self._candidate is None or self._class is None:
            raise PluginError("the worker has loaded no plugin", stage=method)
        arguments = signature(self._candidate.kind, method).read_arguments(plain)
        if method == "open":
            self._instance = self._class()
        if self._instance is None:
            return None
        reply = self._plain(f"{method}()", getattr(self._instance, method)(*arguments))
        if method != "open":
            return reply
        info = getattr(self._instance, "info", None)
        return self._plain("info", info) if isinstance(info, PluginInfo) else None

    def _plain(self, what: str, value: Any) -> Any:
        try:
            return to_plain(value)
        except TypeError as exc:
            raise self._broken(f"answers {what} with what is not plain data: {exc}") from exc

    def _broken(self, what: str) -> PluginContractBroken:
        c = self._candidate
        named = f"{c.kind} {c.name!r} ({c.origin})" if c else "the plugin"
        name = c.name if c else ""
        return PluginContractBroken(f"{named} {what}", plugin=name, details={"reason": what})

    def too_large(self, method: str, exc: Garbled) -> Any:
        """Say as plain data that a reply could not be sent."""
        error = self._broken(f"answers {method}() with {said(exc)}")
        return to_plain(failure(error, ""))


def main(arguments: Sequence[str]) -> NoReturn:
    """Serve as the worker of the agent that started this process.

    Args:
        arguments: The agent's process id, the plugin's name, and the descriptor of each lane's
            socket; the first lane is served by the main thread.
    """
    parent, name, *descriptors = arguments
    _live_no_longer_than(int(parent), name)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The agent ends its workers. A handler, since what is ignored would be so in children too.
        signal.signal(number, lambda _number, _frame: None)
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    hosted = Hosted()
    first, *others = [Channel(_socket(int(number))) for number in descriptors]
    for channel in others:
        threading.Thread(target=_serve, args=(channel, hosted), daemon=True).start()
    _serve(first, hosted)


def _live_no_longer_than(parent: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, f"plugin:{name}".encode()[:15], 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be asked for
        os._exit(0)


def _socket(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


def _serve(channel: Channel, hosted: Hosted) -> NoReturn:
    while True:
        try:
            number, method, arguments = channel.receive()
            done, reply = hosted.answer(method, arguments)
            try:
                channel.send([number, done, reply])
            except Garbled as exc:
                channel.send([number, False, hosted.too_large(method, exc)])
        except (EOFError, OSError):
            os._exit(0)  # the agent is gone, or wants this to end; what the plugin runs ends too
