"""Plugins written for one test: real distributions on the search path, and hosts that load them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_core.config.selection import Selection
from agent_core.host.candidates import scan
from agent_core.host.plugin_host import PluginHost
from agent_core.host.tables import PluginTables
from agent_core.host.worker_keeper import WorkerPolicy
from agent_core.testing.distributions import fake_distribution, on_path

BASES = {
    "device": ("agent_core.contracts.device", "ComputeDevice"),
    "backend": ("agent_core.contracts.backend", "ContainerBackend"),
    "scratch": ("agent_core.contracts.scratch", "ScratchManager"),
    "runner": ("agent_core.contracts.runner", "KernelRunner"),
}
METHODS = {
    "device": "def devices(self): return [Device(self.info.name + '0', 'ACME One')]\n"
    "def describe(self, grants): return ContainerEdits()\n",
    "scratch": "def create(self, kernel_id, size=None): return Scratch(kernel_id, '/s')\n"
    "def destroy(self, kernel_id): pass\n"
    "def usage(self, kernel_id): return ScratchUsage(0)\n"
    "def list(self): return []\n",
    "runner": "def launch(self, context): return Launch(('/bin/true',))\n",
    "backend": "".join(
        f"async def {name}(self, *args): pass\n"
        for name in (
            *("images", "inspect_image", "create", "start", "stop", "kill", "remove"),
            *("list", "inspect", "handles", "verify"),
        )
    )
    + "".join(f"def {name}(self, *args, **kw): pass\n" for name in ("paths", "events", "logs")),
}
TEMPLATE = """
import os, sys, threading, time
from {module} import *
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import *
from agent_core.contracts.info import *
from agent_core.hookspecs import hookimpl
{prelude}

class Acme({base}):
    info = PluginInfo(kind={kind!r}, name={name!r}{info})
{methods}
{body}

@hookimpl
def register_{kind}():
    return Acme
"""


def plugin_source(
    name: str, kind: str = "device", *, prelude: str = "", body: str = "", info: str = ""
) -> str:
    """Write a plugin that fulfils its contract, with what a test adds to module, class or info."""
    module, base = BASES[kind]
    return TEMPLATE.format(
        module=module,
        base=base,
        kind=kind,
        name=name,
        prelude=textwrap.dedent(prelude),
        methods=textwrap.indent(METHODS[kind], "    "),
        body=textwrap.indent(textwrap.dedent(body), "    "),
        info=f", {info}" if info else "",
    )


class Site:
    """A directory on the search path that distributions are written into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._modules = 0
        self._dists: set[str] = set()

    def install(
        self,
        name: str,
        source: str | None = None,
        *,
        kind: str = "device",
        dist: str | None = None,
        version: str = "1.0",
        contract: int = 1,
        requires: Sequence[str] = ("agent-core>=0.1,<0.2",),
        **parts: str,
    ) -> Path:
        """Install a plugin; without a source, one that fulfils its contract."""
        dist = dist or f"acme-{kind}-{name}"
        self._modules += 1
        if kind == "device":
            self._dists.add(dist)
        module = f"{dist.replace('-', '_')}_{self._modules}"
        return fake_distribution(
            self.path,
            dist,
            version,
            {f"agent_core.{kind}.v{contract}": {name: f"{module}.plugin"}},
            {f"{module}/plugin.py": source or plugin_source(name, kind, **parts)},
            requires=requires,
        )

    def host(
        self,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        isolated: bool = False,
        workers: WorkerPolicy | None = None,
        **selection: Any,
    ) -> PluginHost:
        """Build a host that sees this directory only, and load what it may; inline by default."""
        if not isolated:
            selection.setdefault("inline", tuple(self._dists))
        host = PluginHost(
            Selection(**selection),
            PluginTables(config or {}),
            scan([str(self.path)]),
            workers=workers,
        )
        host.load()
        return host


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "site"
    path.mkdir()
    with on_path(path):
        yield Site(path)


@pytest.fixture
def source() -> Callable[..., str]:
    return plugin_source
