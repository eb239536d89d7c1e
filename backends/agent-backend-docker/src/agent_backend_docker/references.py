"""Names of images, as registries and engines read them.

The grammar is that of the distribution project's `reference` package: an optional host with a dot,
a colon or ``localhost``; lower-case components; a tag; a digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent_core.contracts.errors import InvalidArgument

_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_LONGEST: Final = 255

HUB: Final = "docker.io"
"""The registry of names without a host."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The parts of an image's name; `host` is empty where none was said."""

    host: str
    path: str
    tag: str
    digest: str

    @property
    def registry(self) -> str:
        """The registry that it is pulled from."""
        return self.host or HUB

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.host}/{self.path}" if self.host else self.path

    @property
    def version(self) -> str:
        """The digest, or the tag where there is none."""
        return self.digest or self.tag

    def __str__(self) -> str:
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}"


def read_reference(name: str) -> Reference:
    """Read an image's name; without a tag and a digest it is ``latest``.

    Raises:
        InvalidArgument: when it is none.
    """
    found = _REFERENCE.fullmatch(name)
    if found is None or len(name) > _LONGEST + len("@sha256:") + 64:
        raise InvalidArgument(
            f"{name[:200]!r} is no name of an image",
            hint="Write [host[:port]/]name[:tag], the name in lower case.",
        )
    host, path = found["host"] or "", found["path"]
    if host and not _is_host(host):
        host, path = "", f"{host}/{path}"
    if len(path) > _LONGEST or not re.fullmatch(rf"{_COMPONENT}(?:/{_COMPONENT})*", path):
        raise InvalidArgument(f"{name[:200]!r} is no name of an image")
    digest = found["digest"] or ""
    return Reference(host, path, found["tag"] or ("" if digest else "latest"), digest)


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"
