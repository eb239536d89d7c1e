"""The reference of the RPC: methods, their models, the events, and what `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent_core.cli.shapes import MANY, ONE
from agent_core.contracts import versions
from agent_core.kernels.spec import FIELDS
from agent_core.server.peers import MAX_BACKLOG, MAX_BACKLOGS
from agent_core.server.rpc import Limits
from agent_core.server.transport import HANDSHAKE_MS
from agent_core.wire import content as c
from agent_core.wire import decisions as d
from agent_core.wire import frames, methods
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import reconciling as r
from agent_core.wire.events import EVENTS, EventKind
from agent_core.wire.methods import METHODS, Method
from agent_core.wire.roles import Role
from generators.markdown import code, first_sentence, prose, table
from generators.source import member_docs
from generators.types import bounds, default, words

_HEAD = f"""# RPC methods

The agent serves ZeroMQ (a ROUTER socket) with msgpack, protocol version {versions.RPC_PROTOCOL}.
agentctl and any Python program use `agent_core.client.AgentClient`, which has one typed method
for each of these. On the 0600 unix socket in the [state directory](state-directory.md) every
caller has the role `admin`; over TCP it has the role of its
[CURVE key](../how-to/connect-over-tcp.md).

Unknown parameters are refused, and every fault of a call is named at once. Amounts are decimal
strings, times are seconds since the epoch, durations are seconds. A kernel's id may be shortened
to a unique prefix.

"""
_LIMITS = """
## Limits

Beyond the requests in flight a call is refused with [`busy`](errors.md#busy), whose details say in
`retry_after` when to come again; `AgentClient` does so once, by itself, where a method needs the
role `read` and the call's time allows. Whoever does not read what it asked for counts as gone: its
streams end, and over TCP with a key it is hung up on.

"""
_EVENTS = """# Events

`agentctl events` and the method [`watch_events`](rpc.md#watch_events) show what happens. Each
change of a kernel's [state](kernel-states.md) is a **durable** event: it is written in the same
transaction as the change itself, so that neither is ever there without the other. Its id is
`<epoch>-<sequence>`; a new epoch begins at each boot of the node and whenever the ledger was
[lost](../how-to/recover-a-ledger.md), and an id never repeats.
`agentctl events --json` prints one [EventItem](json.md#eventitem) for each.

What is about a plugin is durable too, and has no kernel. A plugin that crashes again and again is
told once to be down and once to be quarantined, however often it was started meanwhile.

"""
_DATA = """
## Data

`data` of the durable events. A key may be missing where there is nothing to say.

"""
_PROGRESS = """
## Progress

Progress is worth seeing but not worth keeping: it has no id, is never written, and is sent only
to who asks for it.

"""
_SPEC = """
A specification:

"""
_SHAPES = """# JSON shapes

With `--json` a command prints one JSON value on the standard output. Commands that list print an
array; commands that stream print one object in each line. `agentctl schema COMMAND` prints the same
shapes as a JSON schema. Every field is always there; the default is what it has when there is
nothing to say. A field may be added within a version of the protocol; none is renamed or removed.

An error is an object with the one key `error`, see [errors](errors.md). Exit codes: 0 done; 1
refused or failed; 2 usage; 3 the agent cannot be reached; 130 interrupted.

## Streams

| command | each line |
| --- | --- |
| `agentctl events --follow` | an [EventItem](#eventitem) |
| `agentctl kernels logs ID --follow` | `{"text": ...}` |
| `agentctl exec` | the set fields of an [OutputItem](#outputitem), `type` for `kind` |
| `agentctl exec`, at the end | a [RunResult](#runresult), with `"type": "result"` |

## Others

| command | prints |
| --- | --- |
| `agentctl kernels logs ID` | `{"kernel_id": ..., "text": ...}` |
| `agentctl kernels destroy ID...` | [KernelRow](#kernelrow)s, or `{"kernel_id", "error"}` |
| `agentctl keys list` | an array of `{"name", "role", "public_key", "secret"}` |
| `agentctl keys add`, `agentctl keys show` | one such object; `secret` is a path or `null` |
| `agentctl keys remove` | `{"name"}` |
| `agentctl config show` | the configuration by section, with the keys of TOML |
| `agentctl config show --origin` | by dotted key `{"value", "from"}` |
| `agentctl config schema` | the JSON schema of agent.toml |
| `agentctl config check` | `{"ok", "path", "faults", "warnings"}` |
| `agentctl version` | `{"version", "protocol", "contracts", "python"}` |
"""


def page() -> str:
    """Write every method with its parameters and result, and the frames."""
    docs = member_docs(Role)
    roles = table(["role", "may"], [[code(r.name.lower()), docs[r.name]] for r in Role])
    overview = table(
        ["method", "role", "what it does"],
        [[f"[`{x.name}`](#{x.name})", x.role.name.lower(), x.summary] for x in METHODS.values()],
    )
    parts = [_HEAD, overview, "\n## Roles\n\nEach role includes those before it.\n\n", roles]
    parts += [_method(method) for method in METHODS.values()]
    parts += [_limits(), "\n## Frames\n\n", prose(frames.__doc__)]
    return "".join(parts)


def _limits() -> str:
    limits, mebibyte = Limits(), 1 << 20
    rows = [
        ["one frame, either way", f"{frames.MAX_MESSAGE // mebibyte} MiB"],
        ["requests in flight, all clients", f"{limits.in_flight}"],
        ["of these, kept for the unix socket", f"{limits.in_flight_kept}"],
        ["requests in flight, one client", f"{limits.in_flight_of_peer}"],
        ["credit of one stream", f"{frames.MAX_CREDIT // mebibyte} MiB"],
        ["what waits for one client that does not read", f"{MAX_BACKLOG // mebibyte} MiB"],
        ["what waits for all such clients", f"{MAX_BACKLOGS // mebibyte} MiB"],
        ["a handshake", f"{HANDSHAKE_MS / 1000:g} s"],
    ]
    return _LIMITS + table(["of", "at most"], rows)


def _method(method: Method[Any]) -> str:
    lines = [f"\n## {method.name} {{ #{method.name} }}\n", method.summary + "\n"]
    lines.append(f"- role: `{method.role.name.lower()}`")
    lines.append(f"- answers: {_answer(method)}")
    if method.item is not None:
        lines.append(f"- streams: {_link(method.item)}")
    if method.goes_on:
        lines.append("- goes on when its caller no longer waits")
    parameters = _fields(method.params)
    text = "\n".join(lines) + "\n"
    text += f"\n{_note(method)}\n\n{parameters}" if parameters else "\nIt takes nothing.\n"
    return text + (_SPEC + _spec() if method is methods.CREATE_KERNEL else "")


def _spec() -> str:
    rows = [[code(name), meaning] for name, meaning in FIELDS.items()]
    return table(["field of `spec`", "meaning"], rows)


def _note(method: Method[Any]) -> str:
    note = first_sentence(method.params.__doc__).removeprefix(f"Parameters of {method.name}")
    note = note.lstrip(":;. ")
    return f"Takes: {note}" if note else "Takes:"


def _answer(method: Method[Any]) -> str:
    return f"a list of {_link(method.result)}" if method.many else _link(method.result)


def _link(model: type[m.Model]) -> str:
    return f"[{model.__name__}](json.md#{model.__name__.lower()})"


def _fields(model: type[m.Model]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        limits = bounds(field)
        said = words(field.annotation) + (f" ({limits})" if limits else "")
        rows.append([code(name), said, default(field)])
    return table(["field", "type", "default"], rows) if rows else ""


def events() -> str:
    """Write the events."""
    durable = [kind for kind in EVENTS.values() if kind.durable]
    passing = [kind for kind in EVENTS.values() if not kind.durable]
    parts = [_EVENTS, _event_table(durable), _DATA, _data_table(durable)]
    parts += [_PROGRESS, _event_table(passing), "\n", _data_table(passing)]
    return "".join(parts)


def _event_table(kinds: Sequence[EventKind]) -> str:
    return table(["event", "what has happened"], [[code(k.name), k.meaning] for k in kinds])


def _data_table(kinds: Sequence[EventKind]) -> str:
    # Events with the same data have one mapping in common, so that it is shown once.
    groups = {id(kind.data): kind.data for kind in kinds}
    text = ""
    for group, data in groups.items():
        names = ", ".join(code(kind.name) for kind in kinds if id(kind.data) == group)
        rows = [[code(key), meaning] for key, meaning in data.items()]
        text += f"Of {names}:\n\n{table(['key', 'meaning'], rows)}\n"
    return text


def shapes() -> str:
    """Write every model that a method answers with or streams, and those inside of them."""
    answered: list[type[m.Model]] = [*ONE.values(), *MANY.values()]
    answered += [x.result for x in METHODS.values()]
    answered += [x.item for x in METHODS.values() if x.item is not None]
    answered += [m.TrailStep, m.GrantRow, m.HoldRow, m.StepTiming, m.MeasurementRow]
    answered += [c.ModelRow, m.Condition, led.LedgerHold, led.RecoveryRow]
    answered += [d.SlotDecision, d.CandidateRow, d.RemedyRow, r.Reconciled]
    return _SHAPES + "".join(_shape(model) for model in dict.fromkeys(answered))


def _shape(model: type[m.Model]) -> str:
    text = f"\n## {model.__name__}\n\n{prose(model.__doc__)}{_printed(model)}"
    text = f"{text}\n{_fields(model)}" if model.model_fields else text
    return f"{text}\n{_conditions()}" if model is m.Condition else text


def _conditions() -> str:
    return table(["code", "meaning"], [[code(key), said] for key, said in m.CONDITIONS.items()])


def _printed(model: type[m.Model]) -> str:
    one = [f"`agentctl {_typed(command)}`" for command, shape in ONE.items() if shape is model]
    lists = [command for command, shape in MANY.items() if shape is model]
    many = [f"`agentctl {_typed(command)}` (an array)" for command in lists]
    return f"\nPrinted by {', '.join([*one, *many])}.\n" if one or many else ""


def _typed(command: str) -> str:
    """Spell a shape's name as its command is typed."""
    return command.replace(" dry-run", " --dry-run").replace(" fix", " --fix")
