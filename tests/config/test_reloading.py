from __future__ import annotations

from pathlib import Path

from agent_core.config.catalogue import Effect, entries
from agent_core.config.loader import load
from agent_core.config.model import AgentConfig
from agent_core.config.reloading import LIVE, compare, taken_over


def config(tmp_path: Path, text: str) -> AgentConfig:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load(path, environ={}).config


def test_what_is_live_is_told_from_what_needs_a_restart(tmp_path: Path) -> None:
    before = config(tmp_path, '[agent]\nid = "a"\n[logging.pkg-ns]\nx = "INFO"\n')
    after = config(
        tmp_path,
        '[agent]\nid = "b"\n[logging.pkg-ns]\nx = "DEBUG"\n[resource.device-mask]\nm = ["1"]\n'
        "[plugin.mock]\nx = 1\n[kernel]\nx = 1\n",
    )
    changes = compare(before, after)
    assert changes.live == ("logging.pkg-ns.x", "resource.device-mask", "resource.device-mask.m")
    assert changes.restart == ("agent.id",)
    taken = taken_over(before, after)
    assert taken.agent.id == "a"
    assert taken.logging.pkg_ns == {"x": "DEBUG"}
    assert taken.resource.device_mask == {"m": ("1",)}
    assert (taken.plugin, taken.kernel) == ({}, {})
    assert compare(taken, after).live == ()


def test_what_is_the_same_needs_nothing(tmp_path: Path) -> None:
    before = config(tmp_path, '[agent]\nid = "a"\n')
    assert compare(before, before) == ((), ())


def test_every_live_key_is_a_key_in_effect() -> None:
    assert {entry.path for entry in entries() if entry.effect is Effect.NOW} >= LIVE
