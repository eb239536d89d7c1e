"""The documented shape of ``--json`` for every command: a JSON schema made from the wire models."""

from __future__ import annotations

from typing import Any, Final

from agent_core.wire import content as c
from agent_core.wire import decisions as d
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import reconciling as r

ONE: Final[dict[str, type[m.Model]]] = {
    "status": m.Status,
    "config reload": m.Reloaded,
    "plugins show": m.PluginDetail,
    "plugins why": m.PluginDetail,
    "kernels create": m.Created,
    "kernels restart": m.KernelRow,
    "sessions create": m.SessionCreated,
    "kernels create dry-run": d.Plan,
    "kernels show": m.KernelDetail,
    "services start": c.ServiceRow,
    "explain": d.Explanation,
    "ledger check": led.LedgerCheck,
    "ledger show": led.LedgerView,
    "ledger backup": led.BackupRow,
    "reconcile": r.Reconciliation,
}
"""Commands that print one object."""

MANY: Final[dict[str, type[m.Model]]] = {
    "plugins list": m.PluginRow,
    "devices list": m.DeviceRow,
    "slots": m.SlotRow,
    "images list": m.ImageRow,
    "kernels list": m.KernelRow,
    "kernels ports": m.PortRow,
    "kernels destroy": m.KernelRow,
    "services list": c.ServiceRow,
    "sessions list": m.SessionRow,
    "sessions destroy": m.KernelRow,
    "events": m.EventItem,
    "leaks": m.Leak,
    "leaks fix": r.MendedLeak,
}
"""Commands that print an array of objects."""


def commands() -> list[str]:
    """List the commands that have a shape."""
    return sorted([*ONE, *MANY])


def schema_of(command: str) -> dict[str, Any]:
    """Render the JSON schema of a command's output.

    Raises:
        KeyError: when the command has none.
    """
    if command in ONE:
        return ONE[command].model_json_schema(mode="serialization")
    row = MANY[command].model_json_schema(mode="serialization")
    definitions = row.pop("$defs", {})
    array: dict[str, Any] = {"type": "array", "items": row}
    return {**array, "$defs": definitions} if definitions else array
