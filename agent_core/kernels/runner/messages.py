"""Reading what a runner sends: hostile input, checked field by field before anything uses it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent_core.contracts.errors import MalformedFrame
from agent_core.contracts.models import ModelState
from agent_core.contracts.runner import MAX_FRAME, RunRecord, RunStatus
from agent_core.contracts.versions import RUNNER_PROTOCOL
from agent_core.kernels.runner import fields
from agent_core.kernels.runner.model_states import read_model_state
from agent_core.kernels.runner.past import read_history
from agent_core.wire.models import OutputItem

_PREFIX: Final = 4
_PLAIN_FRAME: Final = 64 << 10
_NESTED_BOUND: Final = 16
_PARTS_BOUND: Final = 20_000
_OVERHEAD: Final = 1024  # what Python takes for the shortest one, measured
_STREAMS: Final = frozenset({"stdout", "stderr"})
_STEPS: Final = frozenset({"clean", "build"})
_SERVICE_STATES: Final = frozenset({"stopped", "starting", "running", "ending"})
_MATCHES_BOUND: Final = 1000
_SERVICES_BOUND: Final = 256
_WORDS_BOUND: Final = 32 << 10
_RUNS_BOUND: Final = 10_000
_MIME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9.+-]{0,126}")


@dataclass(frozen=True, slots=True)
class Hello:
    """The runner's first message on a connection."""

    kernel_id: str
    incarnation: int
    pid: int
    stream: str = ""
    runs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ServiceSaid:
    """What a runner says of one service."""

    name: str
    state: str
    exit_code: int | None = None
    error: str = ""
    message: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A numbered message: an output item, the end of a run, or an answer to something else."""

    seq: int
    run_id: str
    item: OutputItem | None
    status: RunStatus | None = None
    exit_code: int | None = None
    cost: int = 0
    """Bytes of credit that it used."""
    services: tuple[ServiceSaid, ...] | None = None
    history: tuple[RunRecord, ...] | None = None
    model: ModelState | None = None
    """How a model is; nobody waits for these."""

    @property
    def answers(self) -> bool:
        """Whether it answers something that is no run."""
        return self.services is not None or self.history is not None

    @property
    def weight(self) -> int:
        """Bytes that it takes in the agent's memory, about; none when the agent made it itself."""
        if not self.seq:
            return 0
        item = self.item
        words = [] if item is None else [item.prompt or "", *(item.matches or ())]
        words += [each.message + each.log for each in self.services or ()]
        words += [each.code for each in self.history or ()]
        return _OVERHEAD + self.cost + sum(map(len, words)) + 64 * len(words)


def encode(message: Mapping[str, Any]) -> bytes:
    """Frame one message of the agent."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise MalformedFrame(f"a message of {len(body)} bytes is longer than {MAX_FRAME}")
    return len(body).to_bytes(_PREFIX, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], int]:
    """Read one frame; returns its message and how many bytes it had.

    Raises:
        MalformedFrame: when it is too long or no JSON object.
        asyncio.IncompleteReadError: when the connection ends.
    """
    length = int.from_bytes(await reader.readexactly(_PREFIX), "big")
    if not 0 < length <= MAX_FRAME:
        raise MalformedFrame(f"the runner announced a frame of {length} bytes")
    body = await reader.readexactly(length)
    if length > _PLAIN_FRAME:
        _check_shape(body)
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise MalformedFrame("the runner sent a frame that is not JSON") from exc
    if not isinstance(message, dict):
        raise MalformedFrame("the runner sent a frame that is no object")
    return message, length


def _check_shape(body: bytes) -> None:
    """Refuse a long frame of many small things: to read one can take a quarter of a second.

    Messages are flat, with one list at the most, and what makes an honest one long is text.
    """
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') <= 2 * _PARTS_BOUND:
        outside = b"".join(bare.split(b'"')[::2])
        nested = outside.count(b"[") + outside.count(b"{")
        if nested <= _NESTED_BOUND and outside.count(b",") <= _PARTS_BOUND:
            return
    raise MalformedFrame(f"the runner sent {len(body)} bytes in too many parts for a message")


def read_hello(message: Mapping[str, Any]) -> Hello:
    """Check a hello.

    Raises:
        MalformedFrame: when it is none, or of another protocol.
    """
    if message.get("type") != "hello" or message.get("protocol") != RUNNER_PROTOCOL:
        raise MalformedFrame(f"the runner did not greet with protocol {RUNNER_PROTOCOL}")
    runs = message.get("runs", [])
    if not isinstance(runs, list) or len(runs) > _RUNS_BOUND:
        raise MalformedFrame(f"runs: not a list of at most {_RUNS_BOUND} ids")
    return Hello(
        fields.text(message, "kernel_id", 64),
        fields.integer(message, "incarnation"),
        fields.integer(message, "pid"),
        fields.text(message, "stream", 64) if "stream" in message else "",
        frozenset(run for run in runs if isinstance(run, str)),
    )


def read_report(message: Mapping[str, Any]) -> Report | None:
    """Check a numbered message; a type that this agent does not know is None.

    Raises:
        MalformedFrame: when a field is missing, of the wrong type, or beyond its bound.
    """
    kind = message.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return None
    return reader(fields.integer(message, "seq"), fields.text(message, "run_id", 64), message)


def _started(seq: int, run_id: str, _message: Mapping[str, Any]) -> Report:
    return Report(seq, run_id, OutputItem(kind="started"))


def _output(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    text = fields.text(message, "text", MAX_FRAME)
    stream = fields.one_of(message, "stream", _STREAMS)
    item = OutputItem(kind="output", stream=stream, text=text)
    return Report(seq, run_id, item, cost=_bytes_of(text))


def _media(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    mime = fields.text(message, "mime", 200)
    if not _MIME.fullmatch(mime):
        raise MalformedFrame("mime: not a type and subtype")
    data = fields.text(message, "data", MAX_FRAME)
    item = OutputItem(kind="media", mime=mime, data=data, alt=_alt(message), more=_more(message))
    return Report(seq, run_id, item, cost=_bytes_of(data, item.alt))


def _html(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    text = fields.text(message, "text", MAX_FRAME)
    item = OutputItem(kind="html", text=text, alt=_alt(message), more=_more(message))
    return Report(seq, run_id, item, cost=_bytes_of(text, item.alt))


def _alt(message: Mapping[str, Any]) -> str | None:
    return fields.text(message, "alt", MAX_FRAME) or None if "alt" in message else None


def _more(message: Mapping[str, Any]) -> bool | None:
    return True if message.get("more") is True else None


def _bytes_of(*texts: str | None) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if text)


def _truncated(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    return Report(seq, run_id, OutputItem(kind="truncated", bytes=fields.count(message, "bytes")))


def _waiting_input(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    item = OutputItem(
        kind="waiting-input",
        prompt=fields.text(message, "prompt", 64 << 10),
        password=message.get("password") is True,
    )
    return Report(seq, run_id, item)


def _step_finished(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    item = OutputItem(
        kind="step-finished",
        step=fields.one_of(message, "step", _STEPS),
        exit_code=fields.integer(message, "exit_code"),
    )
    return Report(seq, run_id, item)


def _completions(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    matches = message.get("matches")
    if not isinstance(matches, list) or not all(isinstance(m, str) for m in matches):
        raise MalformedFrame("matches: not a list of strings")
    return Report(seq, run_id, OutputItem(kind="completions", matches=matches[:_MATCHES_BOUND]))


def _finished(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    status = fields.one_of(message, "status", frozenset(RunStatus))
    code = message.get("exit_code")
    exit_code = None if code is None else fields.integer(message, "exit_code")
    return Report(seq, run_id, None, RunStatus(status), exit_code)


def _service_state(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    said = replace(
        _service_said(message),
        error=fields.text(message, "error", 64) if "error" in message else "",
        message=fields.text(message, "message", _WORDS_BOUND) if "message" in message else "",
        log=fields.text(message, "log", _WORDS_BOUND) if "log" in message else "",
    )
    return Report(seq, run_id, None, services=(said,))


def _services(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    rows = message.get("services")
    if not isinstance(rows, list) or len(rows) > _SERVICES_BOUND:
        raise MalformedFrame(f"services: not a list of at most {_SERVICES_BOUND}")
    if not all(isinstance(row, dict) for row in rows):
        raise MalformedFrame("services: not a list of tables")
    return Report(seq, run_id, None, services=tuple(map(_service_said, rows)))


def _service_said(row: Mapping[str, Any]) -> ServiceSaid:
    code = None if row.get("exit_code") is None else fields.integer(row, "exit_code")
    return ServiceSaid(
        fields.text(row, "name", 64), fields.one_of(row, "state", _SERVICE_STATES), code
    )


def _history(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    return Report(seq, run_id, None, history=read_history(message))


def _model_state(seq: int, run_id: str, message: Mapping[str, Any]) -> Report:
    return Report(seq, run_id, None, model=read_model_state(message))


_READERS: Final = {
    "started": _started,
    "output": _output,
    "media": _media,
    "html": _html,
    "truncated": _truncated,
    "waiting-input": _waiting_input,
    "step-finished": _step_finished,
    "completions": _completions,
    "service-state": _service_state,
    "services": _services,
    "history": _history,
    "model-state": _model_state,
    "finished": _finished,
}
