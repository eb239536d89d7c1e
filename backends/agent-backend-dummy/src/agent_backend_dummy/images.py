"""The images of a simulated node: those that are here, those that a pull brings, and no others."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from agent_backend_dummy.settings import Settings
from agent_backend_dummy.store import Store
from agent_core.contracts.backend import Image
from agent_core.contracts.errors import ImageNotFound, InvalidArgument

ANY: Final = "python"
"""The image that is there when no image is configured at all."""

_KIND: Final = "image"
_SIZE: Final = 64 << 20
_LAYERS: Final = 4
_TURNS: Final = 5
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?", re.ASCII)


class Images:
    """What can be started, pulled and purged; what a pull brought or a commit made is stored."""

    def __init__(self, settings: Settings, store: Store) -> None:
        listed = settings.have or settings.pullable or settings.missing
        self._have = settings.have if listed else (ANY,)
        self._pullable = settings.pullable
        self._missing = settings.missing
        self._store = store

    def all(self) -> list[Image]:
        """List the images that can be started."""
        purged = set(self._store.names("purged"))
        brought = self._store.names(_KIND)
        return [_image(name) for name in sorted({*self._have, *brought} - purged)]

    def inspect(self, name: str) -> Image:
        """Look an image up.

        Raises:
            ImageNotFound: when it is not here; the hint says whether a pull would bring it.
        """
        here = [image.name for image in self.all()]
        if name in here:
            return _image(name)
        if name in self._pullable:
            hint = f"Pull it: agentctl images pull {name}"
        else:
            near = get_close_matches(name, here, 1)
            known = f"did you mean {near[0]}?" if near else f"here are: {', '.join(here) or 'none'}"
            hint = f"{known[0].upper()}{known[1:]}"
        raise ImageNotFound(f"image {name!r} is not on this node", hint=hint)

    def refuse_unknown(self, name: str) -> None:
        """Refuse to pull what no pull finds.

        Raises:
            ImageNotFound: when it is neither here nor to be pulled.
        """
        here = {image.name for image in self.all()}
        if name in self._missing or name not in {*here, *self._pullable, *self._have}:
            raise ImageNotFound(
                f"no registry has image {name!r}",
                hint="Images that can be pulled stand in [agent.image] need-to-pull.",
            )

    async def pull(self, name: str, seconds: float) -> AsyncIterator[Mapping[str, Any]]:
        """Bring an image within some seconds, telling of each layer's bytes."""
        for turn in range(1, _TURNS + 1):
            if seconds > 0:
                await asyncio.sleep(seconds / _TURNS)
            for layer in range(_LAYERS):
                size = _SIZE >> layer
                yield {
                    "layer": hashlib.sha256(f"{name}.{layer}".encode()).hexdigest()[:12],
                    "status": "downloading" if turn < _TURNS else "complete",
                    "current": size * turn // _TURNS,
                    "total": size,
                }
        self.add(name)

    def add(self, name: str) -> None:
        """Have an image from now on, with nothing in it."""
        self._store.drop_files(files_of(name))
        self._store.drop_name("purged", name)
        self._store.put_name(_KIND, name)

    def commit(self, container: str, name: str) -> str:
        """Have an image with the files of a container from now on; returns its digest."""
        with self._store.together():
            self.add(name)
            self._store.copy_files(container, files_of(name))
        return self.inspect(name).digest

    def purge(self, name: str) -> None:
        """Have it no longer; succeeds when it is not here."""
        self._store.drop_files(files_of(name))
        self._store.drop_name(_KIND, name)
        self._store.put_name("purged", name)

    def names(self) -> Sequence[str]:
        """List the names of what is here."""
        return [image.name for image in self.all()]


def files_of(name: str) -> str:
    """Say under what name the store has an image's files; no container is named so."""
    return f"image {name}"


def refuse_malformed(name: str) -> None:
    """Refuse what no registry takes as the name of an image.

    Raises:
        InvalidArgument: when it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:200]!r} is no name of an image",
            hint="Write [host[:port]/]name[:tag], the name in lower case.",
        )


def _image(name: str) -> Image:
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    return Image(name, digest, "x86_64", {"ai.backend.runtime-type": "python"})
