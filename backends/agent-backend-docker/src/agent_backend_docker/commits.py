"""Making containers into images."""

from __future__ import annotations

from typing import Final

from agent_backend_docker.arguments import DIGEST, OWNER, RECORD
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

        What names the container's own agent is not the image's: it would be taken for a container
        of that agent when somebody else runs it.

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
        changes = {"Labels": dict.fromkeys((OWNER, RECORD, DIGEST), "")}
        try:
            made = await self._engine.ask(
                "POST", "commit", params=params, body=changes, seconds=_LONGEST
            )
        except EngineError as exc:
            if exc.status == _GONE:
                raise NotFound(f"there is no container {name!r}") from exc
            raise KernelFailed(f"container {name} cannot be committed: {exc.said}") from exc
        return str(made.get("Id", "")) if isinstance(made, dict) else ""
