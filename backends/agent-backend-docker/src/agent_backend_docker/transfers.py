"""Pulling and pushing: the engine's progress by layer, its errors in our words, silence bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from agent_backend_docker.credentials import header_for
from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.references import Reference, read_reference
from agent_backend_docker.settings import Settings
from agent_core.contracts.errors import (
    AgentError,
    ImageNotFound,
    KernelFailed,
    PluginTimeout,
    PluginUnavailable,
    Unauthorized,
    Unsupported,
)

_MISSING: Final = ("manifest unknown", "not found", "does not exist", "no such image")
_DENIED: Final = ("unauthorized", "denied", "no basic auth", "authentication required")
_ARCHITECTURE: Final = ("no matching manifest", "platform", "exec format")
ROOM: Final = "Free space under the engine's data root: `agentctl images purge`."
"""What to do where the engine has no room left."""

_FULL: Final = ("no space left", "disk quota exceeded")
_AWAY: Final = (
    "connection refused", "no such host", "i/o timeout", "tls handshake", "server misbehaving",
    "network is unreachable", "eof", "502", "503", "504", "500 internal", "timeout",
    "server gave http response", "http: server",
)  # fmt: skip


class Transfers:
    """Moves images between the engine and registries."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    async def pull(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Fetch an image, yielding progress.

        Raises:
            InvalidArgument: when it is no name of an image.
            ImageNotFound: when the registry has none, or none for this architecture.
            Unauthorized: when the registry does not let us.
            PluginUnavailable: when the registry cannot be reached.
            PluginTimeout: when nothing came for too long.
        """
        reference = read_reference(name)
        params = {"fromImage": reference.repository, "tag": reference.version}
        async for item in self._moved(reference, "images/create", params, "pulled"):
            yield item

    async def push(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Send an image to its registry, yielding progress.

        Raises:
            ImageNotFound: when the engine does not have it; else as `pull`.
        """
        reference = read_reference(name)
        params = {"tag": reference.tag}
        path = f"images/{reference.repository}/push"
        async for item in self._moved(reference, path, params, "pushed"):
            yield item

    async def _moved(
        self, reference: Reference, path: str, params: Mapping[str, str], verb: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        # Without the header at all the engine refuses a push.
        headers = header_for(reference.registry, self._settings.registries)
        headers = headers or {"X-Registry-Auth": "e30="}
        try:
            async for said in self._engine.stream(
                "POST", path, params=params, headers=headers, patience=self._settings.stall
            ):
                if error := _error_of(said):
                    raise _failure(reference, error, verb)
                if item := _progress(said):
                    yield item
        except EngineError as exc:
            raise _failure(reference, exc.said, verb) from exc
        except PluginTimeout as exc:
            raise PluginTimeout(
                f"image {reference} is not {verb}: nothing came for {self._settings.stall:g} s",
                plugin="docker",
                stage=verb,
                hint="Look after the registry and the network, and ask again: what has come is"
                " kept. [plugin.docker] stall is how long silence is borne.",
            ) from exc


def _error_of(said: Mapping[str, Any]) -> str:
    detail = said.get("errorDetail")
    told = detail.get("message") if isinstance(detail, Mapping) else None
    return str(told or said.get("error") or "")


def _progress(said: Mapping[str, Any]) -> dict[str, Any] | None:
    if "status" not in said:
        return None
    detail = said.get("progressDetail")
    detail = detail if isinstance(detail, Mapping) else {}
    numbers = {
        key: value
        for key in ("current", "total")
        if isinstance(value := detail.get(key), int) and value >= 0
    }
    return {"layer": str(said.get("id", "")), "status": str(said["status"]), **numbers}


def _failure(reference: Reference, said: str, verb: str) -> AgentError:
    """Tell a failure by what the engine says: it has one status for all of them."""
    low, what = said.lower(), f"image {reference} cannot be {verb}: {said}"
    registry = reference.registry
    if any(word in low for word in _FULL):
        return KernelFailed(what, hint=ROOM)
    if any(word in low for word in _DENIED):
        return Unauthorized(
            what,
            hint=f"Name username and password in [plugin.docker.registries.{registry!r}], or run"
            f" `docker login {registry}` as the agent's user. A private image that is not there"
            " is refused in the same way.",
        )
    if any(word in low for word in _ARCHITECTURE):
        return Unsupported(what, hint="The image is not made for this node's architecture.")
    if any(word in low for word in _MISSING):
        return ImageNotFound(what, hint=f"Look the name and the tag up at {registry}.")
    if any(word in low for word in _AWAY):
        return PluginUnavailable(
            what,
            plugin="docker",
            stage=verb,
            hint=f"Look whether {registry} can be reached from this node, and ask again.",
        )
    return KernelFailed(what)
