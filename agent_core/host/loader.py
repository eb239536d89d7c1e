"""Imports one plugin and checks that its class is what its contract says.

Everything of the plugin's runs in a thread of its own with a deadline, so that neither an import
that exits nor one that never returns takes the agent with it. The hook is validated by pluggy on a
registry of its own, thrown away afterwards: pluggy's own loader stops at the first broken plugin.
"""

from __future__ import annotations

import importlib
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, TypeVar

import pluggy

from agent_core import hookspecs
from agent_core.contracts.backend import ContainerBackend
from agent_core.contracts.device import ComputeDevice
from agent_core.contracts.errors import (
    AgentError,
    PluginContractBroken,
    PluginError,
    PluginImportFailed,
    PluginTimeout,
    bullet_list,
)
from agent_core.contracts.info import CORE_SLOTS, SLOT_NAME, Plugin, PluginInfo
from agent_core.contracts.runner import KernelRunner
from agent_core.contracts.schema import schema_faults
from agent_core.contracts.scratch import ScratchManager
from agent_core.host.candidates import Candidate
from agent_core.host.failures import RemoteTraceback
from agent_core.host.lists import is_intrinsic

_Error = TypeVar("_Error", bound=PluginError)

CLASSES: Final[dict[str, type[Plugin]]] = {
    "backend": ContainerBackend,
    "device": ComputeDevice,
    "scratch": ScratchManager,
    "runner": KernelRunner,
}
"""For each kind, the class that its plugins derive from."""

IMPORT_DEADLINE: Final = 20.0
"""Seconds that one plugin's import and hook may take."""

TRACEBACK_BOUND: Final = 16 << 10
"""Characters of a traceback that are kept; of a longer one, its end."""

_OWN_ROOM: Final = __file__.removesuffix("loader.py")
_MACHINERY: Final = frozenset({importlib.__file__, threading.__file__})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin's class, what it says of itself, and how long importing it took."""

    plugin_class: type[Plugin]
    info: PluginInfo
    load_ms: float


def load(candidate: Candidate, deadline: float = IMPORT_DEADLINE) -> Loaded:
    """Import a candidate, call its hook and check its class; blocks up to `deadline` seconds.

    Raises:
        PluginImportFailed: when importing raises, exits or names nothing.
        PluginContractBroken: when its hook or its class is not what the contract says.
        PluginTimeout: when it is still importing after the deadline.
        KeyboardInterrupt: when the operator interrupts.
    """
    began = time.perf_counter()
    plugin_class = _contained(candidate, deadline)
    load_ms = (time.perf_counter() - began) * 1000
    return Loaded(plugin_class, plugin_class.info, load_ms)


def traceback_text(exc: BaseException) -> str:
    """Render the traceback of what a plugin raised, without the host's own frames.

    It is empty where the plugin raised nothing: it broke its contract, or took too long.
    """
    if isinstance(exc, (PluginContractBroken, PluginTimeout)):
        return ""
    if isinstance(exc.__cause__, RemoteTraceback):
        return exc.__cause__.text[-TRACEBACK_BOUND:]
    cause = exc.__cause__ if isinstance(exc, PluginError) else exc
    if cause is None or cause.__traceback__ is None:
        return ""
    rendered = traceback.TracebackException.from_exception(cause)
    frames = [frame for frame in rendered.stack if not _is_ours(frame.filename)]
    rendered.stack = traceback.StackSummary.from_list(frames)
    return "".join(rendered.format())[-TRACEBACK_BOUND:]


def _is_ours(filename: str) -> bool:
    return filename.startswith(("<frozen importlib", _OWN_ROOM)) or filename in _MACHINERY


def _contained(candidate: Candidate, deadline: float) -> type[Plugin]:
    outcome: list[type[Plugin] | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_examine(candidate))
        except BaseException as exc:  # noqa: BLE001 - an import may raise anything, SystemExit included
            outcome.append(exc)

    thread = threading.Thread(target=work, name=f"import-{candidate.name}", daemon=True)
    thread.start()
    thread.join(deadline)
    if not outcome:
        raise _error(
            PluginTimeout,
            candidate,
            f"is still importing {candidate.module!r} after {deadline:g} s",
            hint="Importing a plugin must be light; its author has to move the work into open().",
        )
    result = outcome[0]
    if isinstance(result, (AgentError, KeyboardInterrupt)):
        raise result
    if isinstance(result, BaseException):
        raise _import_failed(candidate, result) from result
    return result


def _examine(candidate: Candidate) -> type[Plugin]:
    target = _plugins_own(candidate, lambda: _import(candidate))
    hook = _validated_hook(candidate, target)
    plugin_class = _plugins_own(candidate, hook)
    found = list(_class_faults(candidate, plugin_class))
    if found:
        raise _broken(candidate, f"hands over {plugin_class!r}, and {bullet_list(found)}")
    return plugin_class  # type: ignore[no-any-return] # _class_faults has just proven it


def _plugins_own(candidate: Candidate, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except AgentError as exc:  # one of ours, and yet raised by the plugin
        raise _import_failed(candidate, exc) from exc


def _import(candidate: Candidate) -> Any:
    if not candidate.module:
        raise ImportError(f"the entry point names no module: {candidate.value!r}")
    target: Any = importlib.import_module(candidate.module)
    for attribute in filter(None, candidate.attribute.split(".")):
        target = getattr(target, attribute)
    return target


def _validated_hook(candidate: Candidate, target: Any) -> Callable[[], Any]:
    registry = pluggy.PluginManager(hookspecs.PROJECT)
    registry.add_hookspecs(hookspecs)
    name = f"register_{candidate.kind}"
    try:
        registry.register(target, name=candidate.name)
        registry.check_pending()
    except pluggy.PluginValidationError as exc:
        known = ", ".join(sorted(hook for hook in vars(hookspecs) if hook.startswith("register_")))
        reason = " ".join(str(exc).split())
        hint = f"The hooks are {known}; see agent_core.hookspecs."
        raise _broken(candidate, f"declares a wrong hook: {reason}", hint) from exc
    hook: pluggy.HookCaller = getattr(registry.hook, name)
    if not hook.get_hookimpls():
        raise _broken(candidate, *_no_hook(candidate, target, name, registry))
    return hook


def _no_hook(
    candidate: Candidate, target: Any, name: str, registry: pluggy.PluginManager
) -> tuple[str, str]:
    if callable(getattr(target, name, None)):
        return f"has {name}() without the mark of a hook", "Decorate it with @hookimpl."
    others = sorted(h.name for h in registry.get_hookcallers(target) or ())
    if others:
        hint = f"Declare it in the group of its kind, or write {name}()."
        return f"has no hook {name}(), only {', '.join(others)}", hint
    what = "module" if isinstance(target, ModuleType) else type(target).__name__
    hint = f"The entry point names a module with a function {name}(), decorated with @hookimpl."
    return f"has no hook {name}() in the {what} {candidate.value!r}", hint


def _class_faults(candidate: Candidate, plugin_class: Any) -> Iterator[str]:
    contract = CLASSES[candidate.kind]
    if not isinstance(plugin_class, type):
        yield f"{_name_of(plugin_class)} is no class"
        return
    if not issubclass(plugin_class, contract):
        yield f"it does not derive from {contract.__name__}"
        return
    missing = sorted(getattr(plugin_class, "__abstractmethods__", ()))
    if missing:
        yield f"it does not implement {', '.join(missing)}"
    yield from _async_faults(plugin_class, contract)
    info = getattr(plugin_class, "info", None)
    if not isinstance(info, PluginInfo):
        yield f"its info is {_name_of(info)}, not a PluginInfo"
        return
    yield from _info_faults(candidate, info)


def _name_of(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def _async_faults(plugin_class: type[Plugin], contract: type[Plugin]) -> Iterator[str]:
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            continue
        if inspect.iscoroutinefunction(getattr(plugin_class, name, None)):
            yield f"its {name}() is async, and the contract's is not"


def _info_faults(candidate: Candidate, info: PluginInfo) -> Iterator[str]:
    if info.kind != candidate.kind:
        yield f"its info has the kind {info.kind!r}, its entry point {candidate.kind!r}"
    if info.name != candidate.name:
        yield f"its info has the name {info.name!r}, its entry point {candidate.name!r}"
    for method, seconds in info.deadlines.items():
        if not 0 < seconds < float("inf"):
            yield f"its deadline of {method} is {seconds!r}, not a number of seconds"
    for slot in info.slots:
        if slot.name in CORE_SLOTS and is_intrinsic(candidate):
            continue
        if not SLOT_NAME.fullmatch(slot.name):
            yield f"its slot {slot.name!r} is not named like {candidate.name}.device"
    yield from schema_faults(info.config_schema)


def _import_failed(candidate: Candidate, exc: BaseException) -> PluginImportFailed:
    what = f"called sys.exit({exc.code!r})" if isinstance(exc, SystemExit) else _said(exc)
    hint = "The traceback says where; mend or reinstall the plugin, or block it."
    if isinstance(exc, ModuleNotFoundError) and exc.name != candidate.module:
        hint = f"Install what provides the module {exc.name!r}, then start again."
    return _error(PluginImportFailed, candidate, f"cannot be imported: {what}", hint)


def _said(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


def _broken(candidate: Candidate, what: str, hint: str | None = None) -> PluginContractBroken:
    return _error(PluginContractBroken, candidate, what, hint)


def _error(error: type[_Error], candidate: Candidate, what: str, hint: str | None = None) -> _Error:
    message = f"{candidate.kind} {candidate.name!r} ({candidate.origin}) {what}"
    return error(message, plugin=candidate.name, stage="load", hint=hint, details={"reason": what})
