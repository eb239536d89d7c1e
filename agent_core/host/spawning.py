"""Starts processes from one thread that lasts as long as the agent.

The kernel ends a process that asks for it when the *thread* that started it ends. Starting every
worker from the same lasting thread makes that the end of the agent, whoever asks for the worker.
"""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from typing import Any

_Order = tuple[list[str], dict[str, Any], "Future[subprocess.Popen[Any]]"]


def spawn(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process as `subprocess.Popen` does; blocks until it is started.

    Raises:
        OSError: when it cannot be started.
    """
    answer: Future[subprocess.Popen[Any]] = Future()
    _orders().put((command, options, answer))
    return answer.result()


@cache
def _orders() -> SimpleQueue[_Order]:
    orders: SimpleQueue[_Order] = SimpleQueue()
    threading.Thread(target=_work, args=(orders,), name="worker starts", daemon=True).start()
    return orders


def _work(orders: SimpleQueue[_Order]) -> None:
    while True:
        command, options, answer = orders.get()
        try:
            process: subprocess.Popen[Any] = subprocess.Popen(command, **options)
            answer.set_result(process)
        except BaseException as exc:  # noqa: BLE001 - whoever asked shall know, and this thread has to last
            answer.set_exception(exc)
        del answer
