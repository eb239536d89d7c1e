"""The reference of ContainerEdits: every field, its law, and what the backends make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent_core.contracts import edits
from agent_core.contracts.edits import EDIT_FIELDS, ContainerEdits
from generators.contracts import attributes
from generators.markdown import code, inline, table

_HEAD = """# ContainerEdits

A plugin says what a container needs, never how a runtime spells it. The host merges the replies
of all plugins of one kernel; the merge is commutative and associative. Each field has a law of
its own for the case that two plugins give the same key. A conflict is refused as
[`edits-conflict`](errors.md#edits-conflict) and names both plugins.

"""
_ENV = """
A variable is either in `env` or in `path_env` of all plugins together: in both it is a conflict.
The image's environment and the user's lie under the merged edits and never set a key that a
plugin owns.

## What the backends make of them

What a backend refuses, it refuses as [`unsupported`](errors.md#unsupported) before it takes
anything; the kernel's create is undone.

"""

PROCESS: Mapping[str, str] = {
    "env": "applied",
    "path_env": "applied",
    "preload": "applied, as `LD_PRELOAD`",
    "device_nodes": "accepted at their own path; a process can open all that its user can",
    "mounts": "accepted where source and target are the same path; read-only is not enforced",
    "files": "applied below the working directory or a writable mount, refused elsewhere",
    "cdi_names": "refused",
    "device_requests": "refused",
    "groups": "applied; without root only groups that the agent has",
    "rlimits": "applied; without root up to the agent's own hard limit",
    "limits": "applied for `pids` where cgroups permit; the others accepted, not enforced",
    "cpuset": "cores applied by scheduling affinity, memory nodes not bound",
    "syscalls": "accepted, not enforced",
    "networks": "refused",
    "labels": "accepted, without effect",
    "resource_data": "accepted, without effect: no resource file is written",
    "hooks": "refused",
}
"""What the process backend makes of each field; a test compares it with the backend."""


def laws() -> dict[str, str]:
    """Read the law of each field from the table in the module's docstring."""
    lines = (edits.__doc__ or "").split("================  ")[-2].splitlines()[1:]
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.strip("= "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def page() -> str:
    """Write the fields with their laws, and a column for each backend."""
    meanings, law = attributes(ContainerEdits.__doc__), laws()
    fields = [[code(name), inline(meanings[name]), law[name]] for name in EDIT_FIELDS]
    backends = [[code(name), PROCESS[name]] for name in EDIT_FIELDS]
    parts = [_HEAD, table(["field", "what it is", "the same key twice"], fields), _ENV]
    parts.append(table(["field", "`process`"], backends))
    parts.append("\nThe types of the entries are in [the common contract](contract-common.md).\n")
    return "".join(parts)
