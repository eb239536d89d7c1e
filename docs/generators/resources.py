"""The reference of capabilities, slots and amounts."""

from __future__ import annotations

from agent_backend_docker import declaration as docker
from agent_backend_dummy import declaration as dummy
from agent_backend_process import declaration as process

from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.info import SlotType, Support
from generators.markdown import code, table
from generators.source import member_docs

_CAPABILITIES = """# Capabilities

A backend declares as data what it can do on this node: `yes`, `no` or `unknown`. What nobody
declared is unknown. `agentctl plugins show NAME` prints what a plugin declares of itself. What a
kernel needs and the backend lacks is refused as [`unsupported`](errors.md#unsupported) before the
backend takes anything; the kernel's create is undone. Without `ports` nothing is refused: processes
[listen on the node's ports](../how-to/publish-ports.md#listen-where-you-are-told) themselves.

"""
_BACKENDS = """
## What the backends declare { #backends }

As they are installed. What is `unknown` here depends on the node, and is known where an agent runs;
so does a limit of the backend `docker` that its engine's host lacks. Of the backend `process` there
is more in [what it does not do](../explanation/process-backend.md). The backend `dummy` simulates
what it declares.

"""
_SLOTS = """# Slots and amounts

A slot is a kind of resource and its unit. Plugins declare slots and offer amounts of them on
devices. `agentctl slots` lists those of a node with total, used and free; `free` is what one more
kernel could get.

## Names

    cpu                      the core's own
    mem                      the core's own
    <plugin>.<subtype>       cuda.device, cuda.shares
    <plugin>.<subtype>:<profile>   cuda.device:10g-mig

## Types

"""
_AMOUNTS = """
## Amounts

An amount is exact: an integer and a decimal scale inside, a decimal string outside. Nothing is
ever rounded in silence; what is granted is what was asked, or the request is refused.

    amount  =  digits [ "." digits ]                 cpu=2   cuda.shares=0.5
    size    =  amount [ unit [ "i" ] ] [ "b" ]       mem=256m   mem=4g   mem=1GiB
    unit    =  "k" | "m" | "g" | "t" | "p" | "e"     powers of 1024, any case

| request | what becomes of it |
| --- | --- |
| `cpu=2.0` | the same as `cpu=2` |
| `cpu=0.5` | refused: `invalid-amount`, unless [`shared-cpu`](configuration.md#resource) is set |
| `cpu=0` | refused: leave the slot out |
| `cpu=-1` | refused: [`invalid-amount`](errors.md#invalid-amount) |
| `cpu=9999` | refused: [`insufficient-resource`](errors.md#insufficient-resource) |
| `cuda.share=1` | refused: [`unknown-slot`](errors.md#unknown-slot), with the nearest name |
| `cuda.device=1 cuda.shares=0.5` | refused where the plugin says that they exclude each other |

A request is all or nothing over all plugins: where one slot cannot be had, none is taken, and all
faults are named at once.

## Quanta and counters

Each offer has a **quantum**, the smallest amount; every grant is a multiple of it. Where the
devices of one slot differ in it, a request is served by those of one quantum alone, the coarsest
that divides it: `cpu=2` by two whole cores and `cpu=1.5` by the pool, never by both. Offers draw on
**counters**. A whole card, a share of it and a partition of it draw on the same counters, so they
exclude each other by arithmetic, across kernels and plugins. See
[counters instead of exclusion rules](../decisions/0003-counters.md).
"""

BACKENDS = (docker.INFO, process.INFO, dummy.INFO)
"""What each backend says of itself before it is opened."""


def capabilities() -> str:
    """Write what a backend may declare."""
    rows = [[code(name), meaning] for name, meaning in CAPABILITIES.items()]
    values = ", ".join(code(s) for s in Support)
    text = table(["capability", "meaning"], rows)
    told = [
        [code(name), *(each.capabilities.get(name, Support.UNKNOWN) for each in BACKENDS)]
        for name in CAPABILITIES
    ]
    by_backend = table(["capability", *(code(each.name) for each in BACKENDS)], told)
    return f"{_CAPABILITIES}{text}\nValues: {values}.\n{_BACKENDS}{by_backend}"


def slots() -> str:
    """Write how slots are named, counted and asked for."""
    docs = member_docs(SlotType)
    rows = [[code(kind), docs[kind.name]] for kind in SlotType]
    return _SLOTS + table(["type", "how it is counted"], rows) + _AMOUNTS
