"""Making containers into images, with nothing in them of the kernel that they were.

The engine writes a container's configuration into the image, and merges into it what it is told:
what is there under a name that it is told of is replaced, and nothing can be left out. So what was
the kernel's own becomes what it was in the image before, or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.references import read_reference
from agent_core.contracts.errors import InvalidArgument, KernelFailed, NotFound

_GONE: Final = 404
_LONGEST: Final = 6 * 3600.0
"""The core bounds a commit by its configuration; this is only so that none waits for ever."""


class Commits:
    """Commits containers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def commit(self, name: str, image: str) -> str:
        """Commit a container, which stands still meanwhile; returns the image's id.

        Raises:
            InvalidArgument: when `image` is no name of an image, or has a digest.
            NotFound: when there is no such container.
            KernelFailed: when the engine could not, with its reason.
        """
        reference = read_reference(image)
        if reference.digest:
            raise InvalidArgument(
                f"{image!r} has a digest, and the digest of what is made is not known before"
            )
        params = {
            "container": name,
            "repo": reference.repository,
            "tag": reference.tag,
            "pause": True,
        }
        try:
            shown = await self._engine.ask("GET", f"containers/{name}/json")
            image_of_it = await self._engine.ask("GET", f"images/{shown['Image']}/json")
            body = configuration(shown.get("Config") or {}, image_of_it.get("Config") or {})
            made = await self._engine.ask(
                "POST", "commit", params=params, body=body, seconds=_LONGEST
            )
        except EngineError as exc:
            if exc.status == _GONE:
                raise NotFound(f"there is no container {name!r}") from exc
            raise KernelFailed(f"container {name} cannot be committed: {exc.said}") from exc
        return str(made.get("Id", "")) if isinstance(made, dict) else ""


def configuration(container: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the new image's configuration is: that of the image which the container was of."""
    env = dict(entry.partition("=")[::2] for entry in image.get("Env") or [])
    names = (entry.partition("=")[0] for entry in container.get("Env") or [])
    labels = image.get("Labels") or {}
    return {
        "Env": [f"{name}={env.get(name, '')}" for name in names],
        "Labels": {name: labels.get(name, "") for name in container.get("Labels") or {}},
        "Entrypoint": image.get("Entrypoint") or [],
        "Cmd": image.get("Cmd") or ["/bin/sh"],
        "WorkingDir": image.get("WorkingDir") or "/",
        "User": image.get("User") or "0:0",
    }
