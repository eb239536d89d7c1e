"""What an operator should know of the engine, from what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent_backend_docker.settings import Settings
from agent_core.contracts.info import Support

About = Mapping[str, Any]

_LIMITS: Final = {
    "limits.cpu": "CpuCfsQuota",
    "limits.memory": "MemoryLimit",
    "limits.pids": "PidsLimit",
}


def capabilities_of(about: About) -> dict[str, Support]:
    """Say what the engine's host lets it bound."""
    return {
        name: Support.YES if about.get(key, True) else Support.NO for name, key in _LIMITS.items()
    }


def facts_of(about: About, settings: Settings) -> dict[str, str]:
    """Describe the engine and how kernels are bounded by it."""
    if not about:
        return {"engine": f"{settings.socket}, not asked yet"}
    version = f"{about.get('ServerVersion')}, API {about.get('ApiVersion')}"
    return {
        "engine": f"{version}, at {settings.socket}",
        "storage": f"{about.get('Driver')} under {about.get('DockerRootDir')}",
        "cgroups": f"version {about.get('CgroupVersion', '1')}, {about.get('CgroupDriver')}",
        "security": ", ".join(_security(about, settings)),
        "devices": "CDI by the engine" if about.get("CDISpecDirs") else "CDI from the host's files",
        "restarts": "kernels go on while the engine restarts"
        if about.get("LiveRestoreEnabled")
        else "kernels end when the engine is stopped; set live-restore in its daemon.json",
    }


def _security(about: About, settings: Settings) -> Iterator[str]:
    for option in about.get("SecurityOptions") or []:
        yield str(option).removeprefix("name=").partition(",")[0]
    if settings.no_new_privileges:
        yield "no new privileges"
    added = f" and {', '.join(settings.capabilities)}" if settings.capabilities else ""
    yield f"all capabilities dropped but eight{added}"
