"""Where an agent keeps its state and its sockets; standard library only, so that it costs nothing.

The state directory outlives the agent and the node's reboots; the run directory holds sockets and
is short, since the path of a unix socket has 107 bytes at most.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

AGENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What an agent id may look like: it becomes a directory name and a part of container names."""


class AgentPaths(NamedTuple):
    """The directories of one agent; nothing is created here.

    Attributes:
        state: Ledger, keys and the RPC socket; survives reboots.
        run: Sockets of kernels and workers; may vanish at a reboot.
    """

    state: Path
    run: Path

    @property
    def rpc_socket(self) -> Path:
        """The 0600 unix socket that agentctl uses."""
        return self.state / "agent.sock"

    @property
    def keys(self) -> Path:
        """The directory of the CURVE keys, made at the first start."""
        return self.state / "keys"

    @property
    def bundles(self) -> Path:
        """Where the kernel runner is made that containers have mounted."""
        return self.state / "runner"

    @property
    def scratches(self) -> Path:
        """A place for scratch storage, for those who want it beside the state."""
        return self.state / "scratches"


def default_agent_id() -> str:
    """Make ``i-<hostname>``, with whatever an id may not contain turned into a hyphen."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename) or "localhost"
    return f"i-{name}"[:63]


def agent_paths(
    agent_id: str,
    *,
    var_base: Path | None = None,
    ipc_base: Path | None = None,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> AgentPaths:
    """Locate the directories of an agent.

    Args:
        agent_id: The agent's id, a valid directory name.
        var_base: ``[agent] var-base-path``, the parent of the state directory.
        ipc_base: ``[agent] ipc-base-path``, the parent of the run directory.
        environ: The environment; by default the process's own.
        uid: The user; by default the effective one. Root uses the system's directories.
    """
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    state = var_base or _state_base(environ, uid)
    run = ipc_base or _run_base(environ, uid)
    return AgentPaths(state=state / agent_id, run=run / agent_id)


def _state_base(environ: Mapping[str, str], uid: int) -> Path:
    if uid == 0:
        return Path("/var/lib/agent-core")
    return _base_of(environ.get("XDG_STATE_HOME")) or _home(environ) / ".local/state/agent-core"


def default_scratch_root(uid: int | None = None) -> Path:
    """Choose where scratches are made: one place for root, and one for each other user.

    What one user has made private another could not use.
    """
    uid = os.geteuid() if uid is None else uid
    base = "/tmp/backend.ai" if uid == 0 else f"/tmp/backend.ai-{uid}"  # noqa: S108 - documented
    return Path(base) / "scratches"


def _run_base(environ: Mapping[str, str], uid: int) -> Path:
    if uid == 0:
        return Path("/run/agent-core")
    # The fallback is in a directory that others may write to: whoever creates it must make it
    # private and refuse one that belongs to another user.
    return _base_of(environ.get("XDG_RUNTIME_DIR")) or Path(f"/tmp/agent-core-{uid}")  # noqa: S108


def _base_of(directory: str | None) -> Path | None:
    # The XDG specification says that a relative path is to be ignored.
    if not directory or not directory.startswith("/"):
        return None
    return Path(directory) / "agent-core"


def _home(environ: Mapping[str, str]) -> Path:
    # Agents often run without HOME; the password database still knows.
    return Path(environ["HOME"]) if environ.get("HOME") else Path("~").expanduser()
