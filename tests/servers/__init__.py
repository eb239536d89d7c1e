"""Real servers for the tests: each started by a fixture, of the tests' own, and ended with them.

A test that needs one is marked ``@pytest.mark.requires("docker")``: where it cannot be had the test
is skipped with the reason, or fails where AGENT_TESTS_REQUIRE names it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from servers.engine import Engine, without_docker
from servers.proxy import Proxy
from servers.registry import Registry, without_registry

NEEDS = {"docker": without_docker, "registry": without_registry}


def pytest_runtest_setup(item):
    """Skip a test with its reason where a server is missing, or fail it where that must be."""
    for name in (name for mark in item.iter_markers("requires") for name in mark.args):
        need(name)


def need(name):
    """Skip the test that runs where a server is missing, or fail it where that must be."""
    missing = NEEDS[name]() if name in NEEDS else None
    if missing:
        required = os.environ.get("AGENT_TESTS_REQUIRE", "").replace(",", " ").split()
        (pytest.fail if name in required else pytest.skip)(missing)


@pytest.fixture(scope="session")
def engine():
    """A Docker engine for all tests that leave it as it was."""
    with Engine() as started:
        yield started


@pytest.fixture
def own_engine():
    """Make Docker engines for one test, which may do with them what it likes."""
    made: list[Engine] = []

    def make(**options) -> Engine:
        made.append(Engine(**options).start())
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def proxies(engine):
    """Make what stands between an engine and whoever a test sends there instead."""
    with ExitStack() as stack:
        yield lambda on=engine: stack.enter_context(Proxy(on))


@pytest.fixture
def registry(engine):
    """Make registries for one test, in the network of the engine."""
    made: list[Registry] = []

    def make(**options) -> Registry:
        made.append(Registry(engine, **options).start())
        return made[-1]

    yield make
    for each in made:
        each.end()
