"""Model services: servers in a kernel that its runner starts, asks how they are, and starts again.

A model has a port of the kernel, on which it answers. Its status goes by what it answers:
``starting`` until it first answers as it should, ``healthy`` then, ``unhealthy`` once it has not
for as often as its check allows, and ``failed`` when it has ended and is not started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class ModelStatus(StrEnum):
    """How a model service is."""

    STARTING = "starting"
    """It is being prepared or started, or has not answered as it should yet."""
    HEALTHY = "healthy"
    """It answers as it should."""
    UNHEALTHY = "unhealthy"
    """It runs, and has not answered as it should for too long; it is asked on."""
    FAILED = "failed"
    """It does not run, and is not started again by itself."""
    STOPPED = "stopped"
    """It was ended on request."""


RUNNING: Final = frozenset({ModelStatus.STARTING, ModelStatus.HEALTHY, ModelStatus.UNHEALTHY})
"""The statuses of a model that somebody keeps running."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a model is asked how it is.

    Attributes:
        path: What is asked for with HTTP; when empty it is enough that its port takes connections.
        max_retries: How many checks in a row may fail, and how often it is started again.
        max_wait_time: Seconds that one check may take.
        interval: Seconds between two checks.
        expected_status_code: The status of HTTP that is the right answer.
        initial_delay: Seconds after the start before the first check.
    """

    path: str = ""
    max_retries: int = 10
    max_wait_time: float = 15.0
    interval: float = 10.0
    expected_status_code: int = 200
    initial_delay: float = 0.0

    @property
    def patience(self) -> float:
        """Seconds from the start within which it has to answer as it should."""
        return self.initial_delay + max(1, self.max_retries) * self.max_wait_time


@dataclass(frozen=True, slots=True)
class PreStartAction:
    """One thing that is done before the first start: write_file, mkdir, run_command or log."""

    action: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelService:
    """One model and how it is served.

    Attributes:
        name: Its name, which is that of the service that it is published as.
        port: The port of the kernel on which it answers.
        start_command: What serves it: words, or a line for the shell.
        model_path: Where the command runs; the user's work directory when empty.
        shell: The shell of a line; when empty bash or, where there is none, sh.
        pre_start_actions: What is done before the first start, in order.
        health_check: How it is asked how it is.
    """

    name: str
    port: int
    start_command: str | tuple[str, ...]
    model_path: str = ""
    shell: str = ""
    pre_start_actions: tuple[PreStartAction, ...] = ()
    health_check: HealthCheck = HealthCheck()


@dataclass(frozen=True, slots=True)
class ModelState:
    """How one model is.

    Attributes:
        name: The model.
        status: Its status.
        message: Why it is so, where there is more to say.
        restarts: How often it was started again since it was last well for a minute.
        exit_code: How its process ended last, where it has.
    """

    name: str
    status: ModelStatus
    message: str = ""
    restarts: int = 0
    exit_code: int | None = None
