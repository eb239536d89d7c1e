"""What a kernel shows, as what a run says: text for a stream, or one richer thing."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HTML = "text/html"

_PLAIN = "text/plain"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif", "image/webp")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MIME = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9.+-]{0,126}")
_ALTERNATIVE = 8 << 10  # bytes; the rest of a message is for what it stands for


class Text:
    """Text for one of the two streams."""

    __slots__ = ("stream", "text")

    def __init__(self, stream: str, text: str) -> None:
        self.stream = stream
        self.text = text


class Rich:
    """Something other than text, of one MIME type, and text for whoever cannot show it."""

    __slots__ = ("alt", "data", "mime")

    def __init__(self, mime: str, data: str, alt: str) -> None:
        self.mime = mime
        self.data = data
        self.alt = alt


def shown(kind: str, content: dict[str, Any]) -> Text | Rich | None:
    """Read a message of the channel of outputs; None when there is nothing to show."""
    if kind == "stream":
        stream = "stderr" if content.get("name") == "stderr" else "stdout"
        return _text(stream, content.get("text"))
    if kind in {"execute_result", "display_data", "update_display_data"}:
        return _richest(content.get("data"))
    if kind == "error":
        return _text("stderr", _traceback(content))
    return None


def page(content: dict[str, Any]) -> list[Text]:
    """Read what a reply brings to be looked at, such as the help that ``name?`` asks for."""
    payload = content.get("payload")
    items = payload if isinstance(payload, list) else []
    pages = [item for item in items if isinstance(item, dict) and item.get("source") == "page"]
    bundles = [item["data"] for item in pages if isinstance(item.get("data"), dict)]
    texts = [_text("stdout", _COLOURS.sub("", _joined(b.get(_PLAIN, "")))) for b in bundles]
    return [text for text in texts if text is not None]


def _text(stream: str, text: object) -> Text | None:
    return Text(stream, text) if isinstance(text, str) and text else None


def _traceback(content: dict[str, Any]) -> str:
    lines = content.get("traceback")
    if not isinstance(lines, list) or not lines:
        lines = [f"{content.get('ename', 'error')}: {content.get('evalue', '')}"]
    text = "\n".join(line for line in lines if isinstance(line, str))
    # Colours are for one kind of screen, and this goes to any.
    return _COLOURS.sub("", text).rstrip("\n") + "\n"


def _richest(data: object) -> Text | Rich | None:
    """Choose the one form that says most, of those in which a kernel offers a value."""
    if not isinstance(data, dict):
        return None
    plain = data.get(_PLAIN)
    plain = _joined(plain) if plain is not None else ""
    mime = None if _WIDGET in data else _best([key for key in data if _MIME.fullmatch(key)])
    if mime is None:
        return _text("stdout", plain.rstrip("\n") + "\n" if plain else "")
    alt = plain.encode("utf-8", "replace")[:_ALTERNATIVE].decode("utf-8", "ignore")
    return Rich(mime, _joined(data[mime]).strip(), alt)


def _best(offered: list[str]) -> str | None:
    images = [mime for mime in offered if mime.startswith("image/") and mime not in _IMAGES]
    others = [mime for mime in offered if mime != _PLAIN]
    return next((mime for mime in (*_IMAGES, *images, HTML, *others) if mime in offered), None)


def _joined(value: object) -> str:
    """Make text of a value: older kernels send lists of lines, and some types are JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return json.dumps(value)
