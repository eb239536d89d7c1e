"""The reference of the contracts, from their own docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any

from agent_core import hookspecs
from agent_core.contracts import amount as amounts
from agent_core.contracts import backend as backends
from agent_core.contracts import device as devices
from agent_core.contracts import edits, info, inventory, models, versions
from agent_core.contracts import runner as runners
from agent_core.contracts import scratch as scratches
from generators.markdown import code, inline, prose, table
from generators.source import constant_docs, member_docs


def device() -> str:
    """Write the contract of devices."""
    checks = f"\n## Limits\n\nA reply of `devices` is checked as a whole; {_limit()}\n"
    return _kind("Device contract", "device", devices) + checks


def _limit() -> str:
    return (
        f"it has at most {inventory.MAX_DEVICES} devices. A reply with any fault is refused, and "
        "the previous inventory stands."
    )


def backend() -> str:
    """Write the contract of backends."""
    return _kind("Backend contract", "backend", backends)


def scratch() -> str:
    """Write the contract of scratch managers."""
    return _kind("Scratch contract", "scratch", scratches)


def runner() -> str:
    """Write the contract of runners, with the protocol and the models that they serve."""
    served = f"\n## Model services\n\n`{models.__name__}`\n\n{prose(models.__doc__)}"
    return _kind("Runner contract", "runner", runners) + served + "".join(_members(models, 3))


def common() -> str:
    """Write what all contracts share."""
    parts = ["# Common contract\n\nWhat plugins of every kind share.\n"]
    for title, module in {
        "Registration": hookspecs,
        "What a plugin says of itself": info,
        "Amounts": amounts,
        "Edits": edits,
        "Versions": versions,
    }.items():
        parts += [f"\n## {title}\n\n`{module.__name__}`\n\n", prose(_doc(module))]
        parts += list(_members(module, 3))
    return "".join(parts)


def _doc(module: ModuleType) -> str:
    # The table of laws has a page of its own, where it is a table.
    return re.sub(r"\n    =====.*=====\n\n", "\n", module.__doc__ or "", flags=re.DOTALL)


def _kind(title: str, kind: str, module: ModuleType) -> str:
    version = max(versions.CONTRACTS[kind])
    group = f"agent_core.{kind}.v{version}"
    head = (
        f"# {title}\n\nModule `{module.__name__}`, entry-point group `{group}`. "
        "The contract is provisional: it may still change before 1.0.\n\n"
    )
    return head + prose(module.__doc__) + "".join(_members(module, 2))


def _members(module: ModuleType, level: int) -> Iterator[str]:
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            yield from _class(value, level)
        elif inspect.isfunction(value):
            yield _function(value, level)
    constants = constant_docs(module)
    if constants:
        rows = [[code(name), _short(getattr(module, name)), doc] for name, doc in constants.items()
                if not name.startswith("_")]  # fmt: skip
        if rows:
            yield f"\n{'#' * level} Constants\n\n" + table(["name", "value", "meaning"], rows)


def _short(value: object) -> str:
    text = repr(value)
    return code(text) if len(text) <= 60 else ""


def _class(value: type, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {value.__name__}\n\n"
    if issubclass(value, Enum):
        yield prose(value.__doc__) + "\n" + _enum(value)
        return
    if dataclasses.is_dataclass(value):
        yield from _record(value)
    else:
        yield prose(value.__doc__)
    for name, method in vars(value).items():
        if not name.startswith("_") and inspect.isfunction(_bare(method)):
            yield _method(value, name, method, level + 1)


def _enum(value: type[Enum]) -> str:
    docs = member_docs(value)
    rows = [
        [code(f"{value.__name__}.{x.name}"), code(x.value), docs.get(x.name, "")] for x in value
    ]
    return table(["member", "value", "meaning"], rows)


def _record(value: Any) -> Iterator[str]:
    meanings = attributes(value.__doc__)
    text = prose(
        re.sub(r"\n\s*Attributes:\n.*?(?=\n\n|\Z)", "", value.__doc__ or "", flags=re.DOTALL)
    )
    rows = [
        [code(f.name), code(f.type), _default(f), inline(meanings.get(f.name, ""))]
        for f in dataclasses.fields(value)
    ]
    yield text + "\n"
    header = ["field", "type", "default", "meaning"]
    if not any(row[3] for row in rows):
        header, rows = header[:3], [row[:3] for row in rows]
    yield table(header, rows)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        shown = field.default
        return code(f'"{shown}"' if isinstance(shown, str) else repr(shown))
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return code("{}") if made == {} else code(f"{type(made).__name__}()")
    return ""


def attributes(doc: str | None) -> dict[str, str]:
    """Read the section `Attributes:` of a docstring."""
    found: dict[str, str] = {}
    inside, last = False, ""
    for line in inspect.cleandoc(doc or "").splitlines():
        if line == "Attributes:":
            inside = True
        elif inside and (match := re.fullmatch(r"    (\w+): (.*)", line)):
            last = match.group(1)
            found[last] = match.group(2)
        elif inside and line.startswith("     ") and last:
            found[last] += f" {line.strip()}"
    return found


def _bare(method: object) -> object:
    if isinstance(method, property):
        return method.fget
    return method.__func__ if isinstance(method, classmethod | staticmethod) else method


def _method(owner: type, name: str, method: object, level: int) -> str:
    bare: Any = _bare(method)
    marks = []
    if getattr(bare, "__isabstractmethod__", False):
        marks.append("required")
    if isinstance(method, property):
        marks.append("property")
    if isinstance(method, classmethod):
        marks.append("class method")
    title = f"\n{'#' * level} {owner.__name__}.{name}\n\n"
    mark = f"*{', '.join(marks)}*\n\n" if marks else ""
    return title + mark + _signature(name, bare) + "\n" + prose(bare.__doc__)


def _function(function: Any, level: int) -> str:
    title = f"\n{'#' * level} {function.__name__}\n\n"
    return title + _signature(function.__name__, function) + "\n" + prose(function.__doc__)


def _signature(name: str, function: Any) -> str:
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    return f"```python\n{word} {name}{_arguments(function)}\n```\n"


def _arguments(function: Any) -> str:
    text = str(inspect.signature(function))
    return re.sub(r"'([^']*)'", r"\1", text)
