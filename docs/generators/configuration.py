"""The reference of configuration keys: types and defaults from the model, meanings from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from agent_core.config import model, sources, vocabulary
from agent_core.config.model import AgentConfig, Section, kebab
from generators.markdown import code, codes, first_sentence, table
from generators.types import words

_HEAD = """# Configuration

One TOML file, the environment and the command line, each over the one before. Every key below may
be left out. All faults are reported at once, each with its file and line and what to write
instead: `agentctl config check`. `agentctl config show` prints what is in effect.

## Where it comes from

"""
_ENVIRONMENT = """
Every key can be set by a variable: `AGENT_`, the path to the key with `__` between the parts, and
`_` for each hyphen. `AGENT_AGENT__ID=i-one` sets `id` of `[agent]`. A list is JSON or has commas
between its items. These variables have names of their own:

"""
_ALIASES = """
## Other spellings

These keys are accepted and mean the same as the key on the right. Those that are deprecated are
warned about at the start.

"""
_PENDING = """
## Known, and not yet in effect

These keys are known from the system whose place this agent takes. They are accepted, announced in
the log and by `agentctl config check`, and do nothing yet. Any other unknown key is a fault, with
the nearest known key as a suggestion.

"""
_HANDED = """
## Tables of plugins outside of [plugin] { #handed }

These tables are handed as they are to the plugins that are selected and declare them, and judged by
their schemas. Where no plugin that is loaded reads one, that is announced at the start. A file
`agent.<backend>.toml` beside `agent.toml` is laid over it.

"""
_PLUGIN = """
## [plugin.NAME] { #plugin-name }

A table of the plugin of that name, checked by the schema which the plugin itself declares;
`agentctl plugins show NAME` prints it. Keys of the plugins of this repository are in the README
of each distribution.
"""

MEANINGS: Mapping[str, str] = {
    "agent.id": "the agent's name: of its state directory, and part of every container's name",
    "agent.backend": "the one backend plugin to load",
    "agent.rpc-listen-addr": 'where the RPC is served over TCP, with CURVE; `"none"` for no TCP',
    "agent.rpc-insecure": "serve TCP without CURVE: whoever can connect may do everything",
    "agent.allow-compute-plugins": "device plugins that may load; absent: all, empty: none",
    "agent.block-compute-plugins": "device plugins that may not load; wins over every allow list",
    "agent.ipc-base-path": "parent of the run directory, where the kernels' sockets are",
    "agent.var-base-path": "parent of the state directory",
    "agent.ledger-backup-interval": (
        "how often the ledger is copied, where something has changed; the last two copies are kept"
    ),
    "agent.scaling-group": "the group that this node belongs to; of use once there is a manager",
    "agent.pid-file": "a file for the agent's process id",
    "agent.sync-container-lifecycles.enabled": (
        "compare the ledger with the world regularly, not only at the start and when an "
        "interruption of the backend's events is over"
    ),
    "agent.sync-container-lifecycles.interval": "the time between two comparisons",
    "plugins.allow": "plugins of every kind that may load; absent: all, empty: none",
    "plugins.block": "plugins of every kind that may not load; wins over every allow list",
    "plugins.inline": (
        "device plugins that run in the agent's own process, without a worker of their own; "
        "`cpu`, `mem` and accel-mock always do"
    ),
    "plugins.worker-memory": (
        "resident memory beyond which a plugin's worker is started again; 0: no limit"
    ),
    "plugins.deadline": "how long opening one plugin may take",
    "agent.intrinsic": "the cores and the memory of a simulated node; for the dummy backend",
    "agent.resource": "the same, as `cpu.num-core` and `memory.size`; for the dummy backend",
    "agent.delay": "how long a simulated runtime takes; for the dummy backend",
    "agent.image": "the images of a simulated node; for the dummy backend",
    "kernel": "how simulated kernels behave; for the dummy backend",
    "kernel-creation-ctx": "how long the parts of a simulated create take; for the dummy backend",
    "container.scratch-type": (
        "the one scratch plugin to load; by default the one that comes with the backend, else "
        "`hostdir`"
    ),
    "container.scratch-root": "where scratch storage is made",
    "container.scratch-size": "the size of a kernel's scratch; 0 is without limit",
    "container.runner": (
        "the one kernel runner to load; by default the one that comes with the backend, else "
        "`default`"
    ),
    "container.stop-grace": "how long a container may take to end before it is killed",
    "container.bind-host": (
        "the address that kernels' ports are published on; `0.0.0.0` is all of this node's"
    ),
    "container.advertised-host": (
        "where callers reach published ports; empty: `bind-host`, or the host's name where that "
        "is every address"
    ),
    "container.port-range": "the ports that kernels' ports are published on, both ends included",
    "container.port-reuse-cooldown-sec": (
        "how long a port that was given back rests before it is given again"
    ),
    "resource.reserved-cpu": "how many cores are kept from kernels, the lowest-numbered first",
    "resource.reserved-mem": "how much memory is kept from kernels",
    "resource.shared-cpu": (
        "how many cores are a pool that kernels share, the lowest-numbered after the reserved "
        "ones: a request with a fraction, such as `cpu=0.5`, is served by it alone, a whole one "
        "never; 0: fractions are refused"
    ),
    "resource.cpu-overcommit": (
        "how many kernels may share a core on average; none has a core twice, so one kernel still "
        "gets at most every core"
    ),
    "resource.mem-overcommit": (
        "how much of the unreserved memory is promised; what is promised beyond it may be missing "
        "when all use what they have, and the system then kills processes"
    ),
    "resource.device-mask": (
        "devices that get no new grants, by plugin: ids, physical keys or globs of them, such as "
        '`cuda = ["GPU-8f2c*"]`; what runs on them keeps them'
    ),
    "resource.device-interval": (
        "how often plugins are asked for their devices: the longest that a device which has come, "
        "gone or failed is unknown as such"
    ),
    "resource.allocation-strategy": "how a request that fits no single device is split",
    "logging.level": "the least severe messages that are logged",
    "logging.drivers": "where messages go: `console`, `file`",
    "logging.console.colored": "colours on the console; by default where it is a terminal",
    "logging.console.format": "how a line looks: simple, verbose or json",
    "logging.file.path": "the directory of the log file; by default `logs` in the state directory",
    "logging.file.filename": "the log file's name",
    "logging.file.backup-count": "how many rotated files are kept",
    "logging.file.rotation-size": "the size at which the file is rotated",
    "logging.file.format": "how a line looks: simple, verbose or json",
    "logging.pkg-ns": 'levels of single loggers by name; `""` is the root',
    "debug.enabled": "log everything that the agent itself has to say",
    "debug.log-events": "log every event",
    "kernel-lifecycles.init-timeout": "how long a kernel's runner has to connect",
    "kernel-lifecycles.stranger-policy": (
        "what is done with what is provably this agent's and held by nobody: report, or remove"
    ),
    "kernel-lifecycles.stranger-grace": (
        "how long such a thing must have been seen before that; counted anew from each start"
    ),
}
"""What each key means."""

_TABLES = (
    *("agent.intrinsic", "agent.resource", "agent.delay", "agent.image"),
    *("kernel", "kernel-creation-ctx"),
)


def page() -> str:
    """Write every key of the model, the aliases and the pending keys."""
    order = [*sources.search_order({"HOME": "~"})]
    places = "".join(
        f"{i}. `{place}`\n" for i, place in enumerate(["$AGENT_CONFIG_FILE", *order], 1)
    )
    first = "The file named by `-f`; without it the first of these that exists:\n\n"
    parts = [_HEAD, first, places, _ENVIRONMENT, _short_variables()]
    parts += list(_sections(AgentConfig, ()))
    parts += [_PLUGIN, _HANDED, _handed(), _ALIASES, _aliases(), _PENDING, _pending()]
    return "".join(parts)


def _handed() -> str:
    rows = [[code(f"[{key}]"), MEANINGS[key]] for key in _TABLES]
    return table(["table", "meaning"], rows)


def _short_variables() -> str:
    pairs = vocabulary.SHORT_VARIABLES.items()
    return table(["variable", "key"], [[code(name), code(_dotted(path))] for name, path in pairs])


def keys(section: type[Section] = AgentConfig, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every key of the model, dotted."""
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        here = (*path, kebab(name))
        if inner is not None:
            yield from keys(inner, here)
        elif here != ("plugin",):
            yield _dotted(here)


def _sections(section: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    plain = {n: f for n, f in section.model_fields.items() if _section_of(f) is None}
    if path:
        rows = [_row(section, name, field, path) for name, field in plain.items()]
        title = _dotted(path)
        anchor, meaning = title.replace(".", "-"), first_sentence(section.__doc__)
        yield f"\n## [{title}] {{ #{anchor} }}\n\n{meaning}\n\n"
        yield table(["key", "value", "default", "meaning"], rows)
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is not None:
            yield from _sections(inner, (*path, kebab(name)))


def _row(section: type[Section], name: str, field: FieldInfo, path: tuple[str, ...]) -> list[str]:
    dotted = _dotted((*path, kebab(name)))
    return [
        code(kebab(name)),
        _value(field),
        _default(section, name, field, path),
        MEANINGS[dotted],
    ]


def _section_of(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, Section) and kind is not model.Address:
        return kind
    return None


def _value(field: FieldInfo) -> str:
    return _description(field) or words(field.annotation)


def _description(field: FieldInfo) -> str:
    if field.description:
        return field.description
    # A union keeps the description of its members inside of its annotation.
    for part in getattr(field.annotation, "__args__", ()):
        for item in getattr(part, "__metadata__", ()):
            if getattr(item, "description", None):
                return str(item.description)
    return ""


def _default(section: type[Section], name: str, field: FieldInfo, path: tuple[str, ...]) -> str:
    if (*path, name) == ("agent", "id"):
        return "`i-<hostname>`"
    if (*path, name) == ("container", "scratch_root"):
        return "`/tmp/backend.ai/scratches`; not as root `/tmp/backend.ai-<uid>/scratches`"
    return code(_toml(field.get_default(call_default_factory=True)))


def _toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, model.Address):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return _number(value)


def _number(value: float) -> str:
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        mebibytes = value >> 20
        return f'"{mebibytes >> 10}G"' if mebibytes % 1024 == 0 else f'"{mebibytes}M"'
    return f"{value:g}"


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _aliases() -> str:
    rows = [
        [code(_dotted(path)), code(_dotted((*path[:-1], a.key))), "yes" if a.deprecated else ""]
        for path, a in vocabulary.ALIASES.items()
    ]
    return table(["key", "means", "deprecated"], rows)


def _pending() -> str:
    rows = [
        [code(f"[{_dotted(path)}]"), codes(sorted(names)) if names else "all of it"]
        for path, names in vocabulary.PENDING.items()
    ]
    return table(["table", "keys"], rows)
