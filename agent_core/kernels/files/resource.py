"""What a kernel has been given, as it finds it: ``resource.txt``, and ``resource.json`` beside it.

Amounts are exact decimals, and sizes whole bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim
from agent_core.contracts.edits import ContainerEdits
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.files.lines import write_list

LINES: Final[Mapping[str, str]] = {
    "SCRATCH_SIZE": "bytes that the scratch can hold; `0` when nothing limits it",
    "MOUNTS": "a list of `source:target:permission`: what is mounted, and where it is seen",
    "SLOTS": "a JSON object: what is granted of each slot, a decimal as a string",
    "UNIFIED_DEVICES": "`[]`: no slot here is shared by all kernels without being granted",
    "<SLOT>_SHARES": "a list of `device:amount`: of which devices that is; the slot in upper case",
    "<of a plugin>": "what a plugin says of its devices to those who use them",
    "CID": "the name of the container",
}
"""Every line of resource.txt, in order."""


def resource_lines(build: Assembly) -> dict[str, str]:
    """Return the lines; a plugin's own never take the place of these."""
    edits = build.edits.resolve()
    mounts = ((m.source, m.target, m.permission.value) for m in edits.mounts)
    core = {
        "SCRATCH_SIZE": str((build.scratch and build.scratch.size_limit) or 0),
        "MOUNTS": write_list(mounts),
        "SLOTS": json.dumps(_totals(build.claims)),
        "UNIFIED_DEVICES": "[]",
        **_shares(build.claims),
    }
    last = {"CID": build.container}
    return {**core, **_of_plugins(edits, core | last), **last}


def left_out(build: Assembly) -> list[str]:
    """Say which lines of plugins are not there, since the core's have these names."""
    data = build.edits.resolve().resource_data
    if not data:
        return []
    lines = resource_lines(build)
    return [
        f"resource.txt: {key} is the core's own, and that of plugin "
        f"{' and '.join(build.edits.sources('resource_data', key))} is left out"
        for key in sorted(data)
        if lines[key] != data[key]
    ]


def resource_data(build: Assembly) -> dict[str, Any]:
    """Return the same as plain JSON data, by plugin, slot and device as they are named."""
    edits = build.edits.resolve()
    return {
        "kernel_id": build.spec.kernel_id,
        "incarnation": build.incarnation,
        "container": build.container,
        "scratch_size": build.scratch.size_limit if build.scratch else None,
        "slots": _totals(build.claims),
        "devices": {claim.plugin: _by_slot(claim) for claim in build.claims},
        "mounts": [
            {"source": m.source, "target": m.target, "permission": m.permission.value}
            for m in edits.mounts
        ],
        "data": dict(edits.resource_data),
    }


def _of_plugins(edits: ContainerEdits, core: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in edits.resource_data.items() if key not in core}


def _totals(claims: tuple[Claim, ...]) -> dict[str, str]:
    totals: dict[str, Amount] = {}
    for grant in (grant for claim in claims for grant in claim.grants):
        totals[grant.slot] = totals.get(grant.slot, Amount(0)) + grant.amount
    return {slot: str(amount) for slot, amount in totals.items()}


def _shares(claims: tuple[Claim, ...]) -> dict[str, str]:
    given: dict[str, list[tuple[str, str]]] = {}
    for grant in (grant for claim in claims for grant in claim.grants):
        line = given.setdefault(f"{grant.slot.upper()}_SHARES", [])
        line.append((grant.device_id, str(grant.amount)))
    return {key: write_list(items) for key, items in given.items()}


def _by_slot(claim: Claim) -> dict[str, dict[str, str]]:
    slots: dict[str, dict[str, str]] = {}
    for grant in claim.grants:
        slots.setdefault(grant.slot, {})[grant.device_id] = str(grant.amount)
    return slots
