"""Corpora of bad backends: what each of them is to fail, and which checks it meets.

`test_backend_conformance_bites` runs them, and proves that of each backend exactly those checks
fail that are named in `fails`, each for the reason that stands there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_core.contracts.backend import ContainerBackend
from agent_core.testing import ContainerBackendContract
from agent_core.testing.lifetime import PluginContract


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a bad backend fails.

    Attributes:
        backend: The backend.
        fails: The tests that fail, and for each a piece of the reason.
        alone: Whether nothing else is run, as the fault breaks what all the others build on.
        hangs: Whether a fault shows as waiting forever, so that the deadline should be short.
    """

    backend: type[ContainerBackend]
    fails: Mapping[str, str]
    alone: bool = False
    hangs: bool = False

    @property
    def name(self) -> str:
        return self.backend.__name__


def _tests(*classes: type) -> list[str]:
    names = [name for each in classes for name in vars(each) if name.startswith("test_")]
    return [*dict.fromkeys(names)]


SHARED = _tests(PluginContract)
"""What all kinds of plugins share, which needs no backend."""

CHECKS = [name for name in _tests(*ContainerBackendContract.__mro__) if name not in SHARED]
"""Every check of the backends' suite, those of its parts included."""

WHOLE = "AGENT_TESTS_WHOLE_CORPUS" in os.environ
"""Whether every check meets every bad backend, which takes minutes."""

_NEIGHBOURS = 1


def _chosen(expected: Expectation) -> list[str]:
    """Choose the checks that are to fail, and what stands beside them in the suite."""
    wanted = tuple(f"test_{name.partition('[')[0]}" for name in expected.fails)
    places = [n for n, check in enumerate(CHECKS) if check.startswith(wanted)]
    if expected.alone:
        return [CHECKS[n] for n in places]
    if WHOLE or not wanted:
        return CHECKS
    near = {m for n in places for m in range(n - _NEIGHBOURS, n + _NEIGHBOURS + 1)}
    return [check for n, check in enumerate(CHECKS) if n in near]


def suites(
    base: type[ContainerBackendContract], corpus: Iterable[Expectation]
) -> dict[str, type[ContainerBackendContract]]:
    """Make the suite of each bad backend, by the name under which pytest finds it."""
    return {f"Test{expected.name}": _suite(base, expected) for expected in corpus}


def _suite(
    base: type[ContainerBackendContract], expected: Expectation
) -> type[ContainerBackendContract]:
    left_out = {*SHARED, *CHECKS} - set(_chosen(expected))
    body: dict[str, Any] = dict.fromkeys(left_out)
    body["backend"] = expected.backend
    if expected.hangs:
        body["deadline"] = 4.0
    return type(f"Test{expected.name}", (base,), body)
