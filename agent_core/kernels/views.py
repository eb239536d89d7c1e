"""Kernels as the wire shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from agent_core.contracts.device import Subject
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import ask
from agent_core.kernels.claims import claim_from_data
from agent_core.kernels.published import fronts_of, ports_of
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, KernelRow
from agent_core.wire import models as m

if TYPE_CHECKING:
    from agent_core.kernels.owner import Owner


def row_of(row: KernelRow) -> m.KernelRow:
    """Show one row of a list."""
    return m.KernelRow.model_validate(_fields(row))


def _fields(row: KernelRow) -> dict[str, object]:
    return {
        "kernel_id": row.kernel_id,
        "session_id": row.session_id,
        "state": row.state,
        "image": str(row.spec.get("image", "")),
        "reason": row.reason,
        "exit_code": row.exit_code,
        "created_at": row.created_at,
        "incarnation": row.incarnation,
        "slots": _slots(row),
    }


def _slots(row: KernelRow) -> dict[str, str]:
    # A row that another version wrote must not hide the rows beside it.
    slots = row.spec.get("slots")
    return {str(k): str(v) for k, v in slots.items()} if isinstance(slots, Mapping) else {}


async def detail_of(
    services: Services, row: KernelRow, holds: Sequence[HoldRow], owner: Owner | None
) -> m.KernelDetail:
    """Show all of one kernel; its use is read now, and what cannot be read is left out."""
    claims = [claim_from_data(hold.undo) for hold in holds if hold.kind == "claim"]
    usage = await _usage(services, row, holds) if row.state == KernelState.RUNNING else []
    return m.KernelDetail.model_validate(
        {
            **_fields(row),
            "message": row.message,
            "started_at": row.started_at,
            "ended_at": row.ended_at,
            "container": row.container,
            "runner": _runner(owner),
            "ports": _ports(services.settings.advertised_host, holds),
            "grants": [
                m.GrantRow(
                    plugin=c.plugin, slot=g.slot, device_id=g.device_id, amount=str(g.amount)
                )
                for c in claims
                for g in c.grants
            ],
            "holds": [
                m.HoldRow(kind=h.kind, key=h.key, state=h.state, owner=h.kernel_id) for h in holds
            ],
            "timings": [
                m.StepTiming(step=step, seconds=seconds, ledger_seconds=ledger)
                for step, seconds, ledger in row.timings
            ],
            "usage": usage,
            "warnings": [*row.warnings, *_offences(owner)],
            "kill": services.backend.facts().get("kill", ""),
        }
    )


def _ports(host: str, holds: Sequence[HoldRow]) -> list[m.PortRow]:
    shown = f"[{host}]" if ":" in host else host
    in_front = {front.leads_to: front.port for front in fronts_of(holds)}
    return [
        m.PortRow(
            name=port.name,
            protocol=port.protocol,
            container_port=port.container_port,
            host=host,
            host_port=(reached := in_front.get(port.host_port, port.host_port)),
            address=f"{shown}:{reached}",
            tls=port.host_port in in_front,
        )
        for port in ports_of(holds)
    ]


def all_ports(
    host: str, rows: Sequence[KernelRow], holds: Sequence[HoldRow]
) -> list[m.KernelPortRow]:
    """Show what many kernels publish, in the order of the kernels."""
    held: dict[str, list[HoldRow]] = {}
    for hold in holds:
        held.setdefault(hold.kernel_id, []).append(hold)
    return [
        m.KernelPortRow(kernel_id=row.kernel_id, session_id=row.session_id, **port.model_dump())
        for row in rows
        for port in _ports(host, held.get(row.kernel_id, ()))
    ]


def _runner(owner: Owner | None) -> Literal["connected", "disconnected", "none"]:
    if owner is None or owner.build.runs is None:
        return "none"
    return "connected" if owner.build.runs.connected else "disconnected"


def _offences(owner: Owner | None) -> list[str]:
    runs = None if owner is None else owner.build.runs
    if runs is None or not runs.offences:
        return []
    times, last = runs.offences, runs.offence
    return [f"its runner's socket was misused, {times} times since the agent began: {last}"]


async def _usage(
    services: Services, row: KernelRow, holds: Sequence[HoldRow]
) -> list[m.MeasurementRow]:
    try:
        handles = await ask(services, services.backend.handles(row.container or ""), "handles")
    except AgentError:
        return []
    claims = tuple(claim_from_data(hold.undo) for hold in holds if hold.kind == "claim")
    subject = Subject(row.kernel_id, claims, handles.pids, handles.cgroups)
    readings = await services.devices.measure([subject])
    return [
        m.MeasurementRow(
            metric=reading.metric,
            value=reading.value,
            unit=services.devices.unit(plugin, reading.metric),
            at=reading.at,
            capacity=reading.capacity,
        )
        for plugin, reading in readings
        if reading.kernel_id == row.kernel_id
    ]
