"""What every plugin promises, whatever its kind: a light import, honest info, a clean lifetime."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent_core.contracts.errors import AgentError, PluginDisabled
from agent_core.contracts.info import CORE_SLOTS, SLOT_NAME, Plugin, PluginInfo, Support
from agent_core.contracts.schema import schema_faults
from agent_core.testing.plain import from_plain, to_plain

METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")

UNITS = ("bytes", "seconds", "ratio", "watts", "celsius", "count")
"""The base units of series."""

_IMPORT = """
import json, os, sys, threading, time
began = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - began
def target(fd):
    try:
        return os.readlink("/proc/self/fd/" + fd)
    except OSError:
        return ""
print(json.dumps({
    "seconds": seconds,
    "modules": sorted(sys.modules),
    "threads": len(os.listdir("/proc/self/task")),
    "sockets": [t for t in map(target, os.listdir("/proc/self/fd")) if t.startswith("socket:")],
}), flush=True)
os._exit(0)
"""


class PluginContract:
    """The part of a conformance suite that all kinds share.

    Attributes:
        kind: What the plugin's info says its kind is.
        forbidden_imports: Modules that importing the plugin must not bring in.
        import_budget: Seconds that importing the plugin may take in a fresh interpreter.
    """

    kind: ClassVar[str]
    forbidden_imports: ClassVar[tuple[str, ...]] = (
        "aiodocker", "aiohttp", "amdsmi", "docker", "grpc", "numpy", "pynvml", "pyrsmi", "redis",
        "torch", "zmq",
    )  # fmt: skip
    import_budget: ClassVar[float] = 5.0

    @pytest.fixture
    def plugin(self) -> type[Plugin]:
        """The plugin's class; every suite overrides this."""
        raise NotImplementedError("override the fixture `plugin` to return the plugin's class")

    @pytest.fixture
    def config(self) -> Mapping[str, Any]:
        """A configuration that the plugin opens with."""
        return {}

    @pytest.fixture
    def bad_config(self) -> Mapping[str, Any] | None:
        """A configuration that `open` refuses, or None where there is none."""
        return None

    @pytest.fixture
    def entry_module(self, plugin: type[Plugin]) -> str:
        """The module that the entry point names."""
        return plugin.__module__

    def test_importing_it_is_light(self, entry_module: str) -> None:
        """It brings in no vendor's library, starts no thread, opens no socket, and is quick."""
        found = subprocess.run(
            [sys.executable, "-c", _IMPORT, entry_module],
            env={**os.environ, "PYTHONPATH": _search_path()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        code, said = found.returncode, found.stderr
        assert code == 0, f"importing {entry_module} ends with exit status {code}: {said}"
        seen = json.loads(found.stdout.splitlines()[-1])
        heavy = {m.partition(".")[0] for m in seen["modules"]} & set(self.forbidden_imports)
        assert not heavy, f"importing {entry_module} imports {sorted(heavy)}; import them in open()"
        assert seen["threads"] == 1, f"importing {entry_module} starts threads"
        assert seen["sockets"] == [], f"importing {entry_module} opens sockets"
        assert seen["seconds"] < self.import_budget, f"importing takes {seen['seconds']:.2f} s"

    def test_the_hook_returns_this_class(self, plugin: type[Plugin], entry_module: str) -> None:
        """The module of the entry point registers the class that is under test."""
        module = sys.modules.get(entry_module) or __import__(entry_module, fromlist=["_"])
        hook = getattr(module, f"register_{self.kind}", None)
        assert hook is not None, f"{entry_module} has no register_{self.kind}"
        assert hook() is plugin

    def test_its_info_is_sound(self, plugin: type[Plugin]) -> None:
        """Kind, names, slots, series, schema and deadlines are what their declarations allow."""
        self.check_info(plugin.info)

    def check_info(self, info: PluginInfo) -> None:
        """Assert that all that a plugin says of itself is sound."""
        assert isinstance(info, PluginInfo)
        assert info.kind == self.kind
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", info.name), info.name
        assert info.summary, "a summary tells people what this plugin is"
        json.dumps(info.config_schema)
        assert list(schema_faults(info.config_schema)) == []
        assert all(isinstance(s, Support) for s in info.capabilities.values())
        assert all(seconds > 0 for seconds in info.deadlines.values())
        for slot in info.slots:
            named = slot.name in CORE_SLOTS or SLOT_NAME.fullmatch(slot.name)
            assert named, f"{slot.name!r} is not the name of a slot"
        for pattern in info.exclusive_slots:
            covered = any(fnmatchcase(s.name, pattern) for s in info.slots)
            assert covered, f"exclusive_slots: {pattern!r} matches no declared slot"
        for metric in info.metrics:
            assert METRIC_NAME.fullmatch(metric.name), (
                f"{metric.name!r} is not the name of a series"
            )
            assert metric.unit in UNITS, f"{metric.name}: {metric.unit!r} is no base unit {UNITS}"
        series = [(metric.name, metric.scope) for metric in info.metrics]
        assert len(set(series)) == len(series), "a series is declared twice"
        self.check_plain(PluginInfo, info)

    def check_plain(self, kind: Any, value: Any) -> None:
        """Assert that a value crosses a process boundary and comes back equal."""
        assert from_plain(kind, to_plain(value)) == value
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  our own bytes

    def test_it_closes_without_having_opened(self, plugin: type[Plugin]) -> None:
        """The host closes every plugin at the end, whatever became of it."""
        instance = plugin()
        instance.close()
        instance.close()

    def test_it_closes_twice(self, plugin: type[Plugin], config: Mapping[str, Any]) -> None:
        """Closing again does nothing."""
        instance = plugin()
        _open_or_skip(instance, config)
        self.check_info(instance.info)
        instance.close()
        instance.close()

    def test_it_closes_after_a_failed_open(
        self, plugin: type[Plugin], bad_config: Mapping[str, Any] | None
    ) -> None:
        """A refused configuration is an AgentError with a message, and close still works."""
        if bad_config is None:
            pytest.skip("this plugin has no bad_config")
        instance = plugin()
        with pytest.raises(AgentError) as refused:
            instance.open(bad_config)
        assert refused.value.message
        instance.close()

    def test_it_gives_back_what_it_opened(
        self, plugin: type[Plugin], config: Mapping[str, Any]
    ) -> None:
        """After close no thread and no file descriptor is left."""
        _once(plugin, config)
        before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        _once(plugin, config)
        after = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        assert after == before, "threads and file descriptors after a second open and close"

    def test_two_of_it_do_not_share_state(
        self, plugin: type[Plugin], config: Mapping[str, Any]
    ) -> None:
        """Opening one leaves the class and other instances as they were."""
        info, other = plugin.info, plugin()
        attributes = dict(vars(other))
        instance = plugin()
        _open_or_skip(instance, config)
        instance.close()
        assert plugin.info is info
        assert vars(other) == attributes


def _search_path() -> str:
    """Return all places from which this process imports, as pytest may know more than Python."""
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), *sys.path)))


def opened(plugin: type[Plugin], config: Mapping[str, Any]) -> Any:
    """Open a plugin, or skip the test where it has nothing to do on this machine."""
    instance = plugin()
    _open_or_skip(instance, config)
    return instance


def _open_or_skip(instance: Plugin, config: Mapping[str, Any]) -> None:
    try:
        instance.open(config)
    except PluginDisabled as exc:
        instance.close()
        pytest.skip(f"disabled here: {exc}")


def _once(plugin: type[Plugin], config: Mapping[str, Any]) -> None:
    instance = opened(plugin, config)
    with suppress(AgentError):
        instance.close()
