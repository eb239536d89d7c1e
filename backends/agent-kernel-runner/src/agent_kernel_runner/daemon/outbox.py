"""The outbox: numbered messages that are kept until the agent has acknowledged them."""

from __future__ import annotations

from collections import deque

from agent_kernel_runner.daemon.framing import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

OUTPUT_BOUND = 4 << 20
"""Bytes of unacknowledged output that are kept."""

OUTPUT_CHUNK = 32 << 10
"""Bytes of text, in UTF-8, of the longest output message."""

_HTML = "text/html"
_UNBOUNDED = 1 << 62
_OVERHEAD = 256  # so that a million messages of one byte are not taken for one megabyte


class Message:
    """One numbered message; its content is fixed once it was sent."""

    __slots__ = ("body", "fields", "parts", "sent", "seq", "size")

    def __init__(self, seq: int, fields: dict[str, Any], body: str = "text", size: int = 0) -> None:
        self.seq = seq
        self.fields = fields
        self.body = body
        self.parts: list[str] = []
        self.size = size
        self.sent = False

    @property
    def cost(self) -> int:
        """What it counts against the bound; only output does."""
        return self.size + _OVERHEAD if self.parts else 0

    def frame(self) -> bytes:
        """Encode it."""
        text = {self.body: "".join(self.parts)} if self.parts else {}
        return encode({**self.fields, **text, "seq": self.seq})


class Outbox:
    """Messages in their order, those that the agent may have seen and those that wait.

    While it is connected, output is taken only as far as `room` says, and the rest waits in the
    pipes of the code. While it is not, output is taken up to the bound and counted beyond it, so
    that no code ever waits for an agent that is away.
    """

    def __init__(self) -> None:
        self.connected = False
        self.on_added: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None
        self.on_acked: Callable[[dict[str, Any]], None] = lambda fields: None
        self._sent: deque[Message] = deque()
        self._waiting: deque[Message] = deque()
        self._last = 0
        self._fresh = True
        self._credit = 0
        self._held = 0
        self._queued = 0

    def add(self, kind: str, **fields: object) -> None:
        """Append a message that is no output."""
        self._append({"type": kind, **fields})
        self.on_added()

    def _append(self, fields: dict[str, Any], body: str = "text") -> Message:
        self._last += 1
        message = Message(self._last, fields, body)
        self._waiting.append(message)
        return message

    def add_output(self, run_id: str, stream: str, text: str) -> None:
        """Append output, or count it as truncated when nobody takes it and the bound is reached."""
        for piece, size in pieces(text, OUTPUT_CHUNK):
            if not self.connected and self._held + size > OUTPUT_BOUND:
                self._truncate(run_id, size)
            else:
                self._keep({"type": "output", "run_id": run_id, "stream": stream}, piece, size)
        self.on_added()

    def add_rich(self, run_id: str, mime: str, data: str, alt: str) -> None:
        """Append an output that is no text, in pieces, or count it as truncated as a whole."""
        aside = len(alt.encode("utf-8", "replace"))
        cut = pieces(data, OUTPUT_CHUNK - aside) or [("", 0)]
        total = aside + sum(size for _, size in cut)
        if total > OUTPUT_BOUND or (not self.connected and self._held + total > OUTPUT_BOUND):
            self._truncate(run_id, total)
        else:
            self._keep_rich({"run_id": run_id, "alt": alt}, mime, cut, aside)
        self.on_added()

    def _keep_rich(
        self, fields: dict[str, Any], mime: str, cut: list[tuple[str, int]], aside: int
    ) -> None:
        html = mime == _HTML
        kind = {"type": "html"} if html else {"type": "media", "mime": mime}
        for number, (piece, size) in enumerate(cut, 1):
            whole = {**kind, **fields, "more": number < len(cut)}
            self._held += _OVERHEAD
            self._fill(self._append(whole, "text" if html else "data"), piece, size + aside)
            fields, aside = {**fields, "alt": ""}, 0  # it is said once

    def _keep(self, fields: dict[str, Any], text: str, size: int) -> None:
        tail = self._growing(fields)
        if tail is None or tail.size + size > OUTPUT_CHUNK:
            tail = self._append(fields)
            self._held += _OVERHEAD
        self._fill(tail, text, size)

    def _fill(self, tail: Message, text: str, size: int) -> None:
        tail.parts.append(text)
        tail.size += size
        self._held += size
        self._queued += size

    def _truncate(self, run_id: str, size: int) -> None:
        fields = {"type": "truncated", "run_id": run_id}
        tail = self._growing(fields)
        if tail is None:
            tail = self._append({**fields, "bytes": 0})
        tail.fields["bytes"] += size

    def _growing(self, fields: dict[str, Any]) -> Message | None:
        """Return the last message when it is of this kind and was never sent."""
        tail = self._waiting[-1] if self._waiting else None
        if tail is None or tail.sent:
            return None
        return tail if fields.items() <= tail.fields.items() else None

    def room(self) -> int:
        """Return how many bytes of output may be taken from the pipes now."""
        if not self.connected:
            return _UNBOUNDED
        return max(0, min(self._credit - self._queued, OUTPUT_BOUND - self._held))

    def connect(self, acked: int) -> None:
        """Begin a conversation with an agent that has everything up to `acked`."""
        self.disconnect()
        self.connected = True
        if self._fresh:
            self._renumber(acked)
        while self._waiting and self._waiting[0].seq <= acked <= self._last:
            message = self._waiting.popleft()
            self._queued -= message.size
            self._forget(message)

    def _renumber(self, acked: int) -> None:
        """Go on after the numbers of an earlier process of this kernel, which the agent has."""
        self._fresh = False
        self._last += acked
        for message in self._waiting:
            message.seq += acked

    def disconnect(self) -> None:
        """End the conversation: what is unacknowledged waits to be sent again."""
        self.connected = False
        self._credit = 0
        self._queued += sum(message.size for message in self._sent)
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        self.on_room()

    def give(self, credit: int) -> None:
        """Allow so many more bytes of output."""
        self._credit += credit
        self.on_room()

    def ack(self, seq: int) -> None:
        """Forget everything up to `seq`."""
        while self._sent and self._sent[0].seq <= seq:
            self._forget(self._sent.popleft())
        self.on_room()

    def _forget(self, message: Message) -> None:
        self._held -= message.cost
        self.on_acked(message.fields)

    def said(self) -> Mapping[str, Any]:
        """Return what the last frame was about, and its number."""
        message = self._sent[-1]
        return {**message.fields, "seq": message.seq}

    def next_frame(self) -> bytes | None:
        """Return the next frame to send, None when there is none or credit is missing."""
        if not self.connected or not self._waiting or self._waiting[0].size > self._credit:
            return None
        message = self._waiting.popleft()
        message.sent = True
        self._credit -= message.size
        self._queued -= message.size
        self._sent.append(message)
        return message.frame()


def pieces(text: str, limit: int) -> list[tuple[str, int]]:
    """Cut text into pieces of at most `limit` bytes of UTF-8, each with its size."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        # Decoded again: half a surrogate pair would break whoever encodes it next.
        return [(data.decode(), len(data))] if data else []
    cut = []
    start = 0
    while start < len(data):
        end = start + limit
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        piece = data[start:end]
        cut.append((piece.decode(), len(piece)))
        start = end
    return cut
