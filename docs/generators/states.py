"""The reference of states and failpoints."""

from __future__ import annotations

import importlib
import pkgutil

import agent_core
from agent_core import failpoints as points
from agent_core.host.states import MEANINGS as PLUGIN_MEANINGS
from agent_core.host.states import TRANSITIONS as PLUGIN_TRANSITIONS
from agent_core.host.states import PluginState
from agent_core.kernels.states import EVENTS, MEANINGS, REASON_MEANINGS, TRANSITIONS
from agent_core.ledger import HoldState
from generators.markdown import code, codes, table
from generators.source import member_docs

_KERNELS = """# Kernel states

A kernel is in one state. Each change is one transaction of the ledger and one event, so that what
was announced is durable. `agentctl kernels list` shows the states, `agentctl events` the changes.

"""
_REASONS = """
## Reasons

`reason` says why a kernel ended. These are the agent's own; `destroy_kernel` may give another one
of lower-case letters, digits and hyphens.

"""
_HOLDS = """
## States of a hold

Whatever a kernel acquires is a [hold](../explanation/holds-and-the-ledger.md): a row in the
ledger, written before the thing is taken. `agentctl kernels show ID` lists them.

"""
_PLUGINS = """# Plugin states

Every plugin that is installed ends in one state, recorded with the trail of decisions that led to
it. `agentctl plugins list`, `show` and `why` read that record. What to do about each state is in
[Why was my plugin not loaded?](../how-to/why-not-loaded.md).

"""
_FAILPOINTS = """# Failpoints

Named places where a test can kill, fail or delay the agent. They cost one comparison when they
are not armed. Arm them in the environment before the agent starts:

    AGENT_FAILPOINTS="NAME=ACTION[@N];..."

The action is `kill` (SIGKILL to the agent itself), `raise` or `delay:SECONDS`; `N` is the hit
that triggers it, 1 by default. `AGENT_FAILPOINTS_TRACE=FILE` appends the name of each point that
is hit.

"""
_UNINTERESTING = ("agent_core.testing", "agent_core.cli")


def kernels() -> str:
    """Write the states of kernels, their changes, reasons and holds."""
    states = table(
        ["state", "meaning", "may become", "event"],
        [
            [code(s), meaning, codes(sorted(TRANSITIONS[s])) or "nothing", code(EVENTS[s])]
            for s, meaning in MEANINGS.items()
        ],
    )
    reasons = table(["reason", "meaning"], [[code(r), m] for r, m in REASON_MEANINGS.items()])
    docs = member_docs(HoldState)
    holds = table(
        ["state", "meaning"],
        [[code(s), docs.get(s.name) or "Taken, and owned by the kernel."] for s in HoldState],
    )
    return _KERNELS + states + _REASONS + reasons + _HOLDS + holds


def plugins() -> str:
    """Write the states of plugins."""
    rows = [
        [
            f"[`{state}`](../how-to/why-not-loaded.md#{state})",
            PLUGIN_MEANINGS[state],
            "yes" if state.usable else "no",
            codes(sorted(PLUGIN_TRANSITIONS[state])) or "nothing",
        ]
        for state in PluginState
    ]
    return _PLUGINS + table(["state", "meaning", "is called", "may become"], rows)


def failpoints() -> str:
    """Write every failpoint that some module of the agent declares."""
    for module in pkgutil.walk_packages(agent_core.__path__, "agent_core."):
        if not module.name.startswith(_UNINTERESTING):
            importlib.import_module(module.name)
    rows = [[code(name), point.meaning] for name, point in sorted(points.REGISTRY.items())]
    return _FAILPOINTS + table(["name", "what has happened there, and what has not"], rows)
