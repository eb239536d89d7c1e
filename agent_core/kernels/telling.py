"""What `[debug]` lets the agent tell in its log: what containers are made of, and who has what."""

from __future__ import annotations

import structlog

from agent_core.config.model import masked
from agent_core.contracts.backend import ContainerSpec
from agent_core.contracts.plain import to_plain
from agent_core.kernels.services import Services

log = structlog.get_logger(__name__)


def tell_kernel_config(services: Services, kernel_id: str, spec: ContainerSpec) -> None:
    """Log what a kernel's container is made of (``[debug] log-kernel-config``), secrets masked."""
    if services.settings.log_kernel_config:
        made_of = to_plain(spec)
        log.info("a container is made", kernel_id=kernel_id, spec=masked(made_of))


def tell_allocations(services: Services, kernel_id: str, what: str) -> None:
    """Log what is granted of each device (``[debug] log-alloc-map``)."""
    if services.settings.log_alloc_map:
        used = {
            f"{usage.plugin}/{usage.device.id}": {s: str(a) for s, a in usage.used.items()}
            for usage in services.allocator.devices()
            if any(amount.value for amount in usage.used.values())
        }
        log.info("allocations", after=what, kernel_id=kernel_id, used=used)
