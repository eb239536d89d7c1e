"""Who pulls and pushes at a registry: configured, or kept by `docker login`."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent_backend_docker.references import HUB

_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


def header_for(registry: str, configured: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Say who we are to a registry, as the engine's ``X-Registry-Auth``; nothing for a stranger.

    The header is base64 (RFC 4648, URL-safe) of a JSON object of username, password and
    serveraddress.
    """
    found = configured.get(registry) or _kept(registry)
    if not found:
        return {}
    said = {**found, "serveraddress": registry}
    text = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
    return {"X-Registry-Auth": text}


def _kept(registry: str) -> dict[str, str] | None:
    """Read what `docker login` left in its configuration, where it is not with a helper."""
    home = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        auths = json.loads((Path(home) / "config.json").read_bytes()).get("auths") or {}
    except (OSError, ValueError, AttributeError):
        return None
    names = _HUB_KEYS if registry == HUB else (registry, f"https://{registry}")
    for entry in filter(None, map(auths.get, names)):
        if pair := _pair(str(entry.get("auth", ""))):
            return pair
    return None


def _pair(text: str) -> dict[str, str] | None:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return {"username": user, "password": password} if colon else None
