from __future__ import annotations

from pathlib import Path

from agent_core.config.paths import AGENT_ID, agent_paths, default_agent_id


def test_root_uses_the_directories_of_the_system() -> None:
    paths = agent_paths("i-a", environ={"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}, uid=0)
    assert paths.state == Path("/var/lib/agent-core/i-a")
    assert paths.run == Path("/run/agent-core/i-a")
    assert paths.rpc_socket == Path("/var/lib/agent-core/i-a/agent.sock")


def test_a_user_has_directories_of_their_own() -> None:
    paths = agent_paths("i-a", environ={"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}, uid=7)
    assert paths.state == Path("/s/agent-core/i-a")
    assert paths.run == Path("/r/agent-core/i-a")


def test_without_variables_a_user_falls_back_on_home_and_a_private_directory() -> None:
    paths = agent_paths("i-a", environ={"HOME": "/home/u", "XDG_STATE_HOME": "relative"}, uid=7)
    assert paths.state == Path("/home/u/.local/state/agent-core/i-a")
    assert paths.run == Path("/tmp/agent-core-7/i-a")


def test_configured_bases_win() -> None:
    paths = agent_paths("i-a", var_base=Path("/v"), ipc_base=Path("/i"), environ={}, uid=0)
    assert paths == (Path("/v/i-a"), Path("/i/i-a"))


def test_the_default_id_is_always_a_valid_one() -> None:
    assert AGENT_ID.fullmatch(default_agent_id())
