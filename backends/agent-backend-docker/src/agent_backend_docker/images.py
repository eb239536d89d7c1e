"""The images that the engine has, with what they say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.references import Reference, read_reference
from agent_core.contracts.backend import Image
from agent_core.contracts.errors import ImageNotFound, WrongState

_GONE: Final = 404
_CONFLICT: Final = 409
_AT_ONCE: Final = 8
_REMEMBERED: Final = 4096
_NAMED: Final = 5


class Images:
    """The images of one engine; what one of them is like never changes, and is asked once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, Mapping[str, Any]] = {}

    async def all(self) -> Sequence[Image]:
        """List every name of every image."""
        entries = await self._engine.ask("GET", "images/json") or []
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def of(entry: Mapping[str, Any]) -> list[Image]:
            async with at_once:
                shown = await self._shown(str(entry.get("Id", "")))
            tags = entry.get("RepoTags") or []
            return [image_of(tag, shown) for tag in tags if shown and "<none>" not in tag]

        found = await asyncio.gather(*map(of, entries))
        return sorted((image for images in found for image in images), key=lambda i: i.name)

    async def find(self, name: str) -> Image:
        """Look an image up by its name.

        Raises:
            InvalidArgument: when it is no name of an image.
            ImageNotFound: when the engine does not have it.
        """
        reference = read_reference(name)
        try:
            shown = await self._engine.ask("GET", f"images/{reference}/json")
        except EngineError as exc:
            if exc.status != _GONE:
                raise
            raise await self._missing(name) from exc
        self._remember(shown)
        return image_of(name, shown)

    async def saved(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield an image as a tar stream that an engine can load.

        Raises:
            ImageNotFound: when the engine does not have it.
        """
        await self.find(name)
        async with self._engine.answer("GET", f"images/{read_reference(name)}/get") as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def remove(self, name: str) -> None:
        """Remove an image's name, and the image with its last one.

        Raises:
            WrongState: when a container uses it.
        """
        reference = read_reference(name)
        try:
            await self._engine.ask("DELETE", f"images/{reference}", seconds=120)
        except EngineError as exc:
            if exc.status == _CONFLICT:
                raise WrongState(
                    f"image {name} is in use: {exc.said}",
                    hint="Destroy the kernels that were made from it first.",
                ) from exc
            if exc.status != _GONE:
                raise

    async def _shown(self, identity: str) -> Mapping[str, Any] | None:
        """Look an image up by its id; one that has gone meanwhile is None."""
        if identity not in self._known:
            try:
                self._remember(await self._engine.ask("GET", f"images/{identity}/json"))
            except EngineError as exc:
                if exc.status != _GONE:
                    raise
        return self._known.get(identity)

    def _remember(self, shown: Mapping[str, Any]) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[str(shown.get("Id", ""))] = shown

    async def _missing(self, name: str) -> ImageNotFound:
        names = [image.name for image in await self.all()]
        near = get_close_matches(name, names, _NAMED, 0.4) or names[:_NAMED]
        there = f"There are {', '.join(near)}." if near else "There are none yet."
        return ImageNotFound(
            f"the engine has no image {name!r}",
            hint=f"{there} `agentctl images pull {name}` fetches it from its registry.",
            details={"image": name, "images": near},
        )


def image_of(name: str, shown: Mapping[str, Any]) -> Image:
    """Read what `GET /images/{name}/json` shows."""
    config = shown.get("Config") or {}
    entries = config.get("Env") or []
    return Image(
        name=name,
        digest=digest_of(read_reference(name), shown),
        architecture=str(shown.get("Architecture", "")),
        labels=dict(config.get("Labels") or {}),
        env=dict(_pairs(entries)),
    )


def digest_of(reference: Reference, shown: Mapping[str, Any]) -> str:
    """The digest by which the image's registry knows it, or its id where none has it."""
    known = (str(each).partition("@") for each in shown.get("RepoDigests") or [])
    own = [digest for repository, _, digest in known if repository == reference.repository]
    return own[0] if own else str(shown.get("Id", ""))


def _pairs(entries: Iterable[str]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        name, _, value = entry.partition("=")
        yield name, value
