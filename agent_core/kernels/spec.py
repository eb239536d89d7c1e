"""What a caller asks a kernel to be; every fault of it is named at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import AgentError, InvalidSpec, bullet_list
from agent_core.contracts.models import ModelService
from agent_core.kernels.cluster import ALONE, Cluster, read_cluster
from agent_core.kernels.dotfiles import Dotfile, read_dotfiles
from agent_core.kernels.model_definition import published, read_models, to_data
from agent_core.kernels.service_ports import ServicePort, read_services
from agent_core.kernels.startup import BOOTSTRAP, NOTHING, Startup, read_startup
from agent_core.kernels.startup import FIELDS as STARTUP_FIELDS

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_BOUND: Final = 256 << 10

PULLS: Final = ("missing", "always", "never")
"""When an image is pulled: when it is not here, at each create, or not at all."""

_LATER: Final = ("ports", "cluster", "pull", "dotfiles", "model_definition", *STARTUP_FIELDS)

LONGEST_ENTRY: Final = (128 << 10) - 1
"""The most bytes of ``NAME=value``: Linux starts no process with a longer one."""

FIELDS: Final[Mapping[str, str]] = {
    "kernel_id": "the id; made up when absent; the key of idempotence",
    "session_id": "the session it belongs to; the kernel's own id when absent",
    "image": "the image to run (required)",
    "pull": "when to pull it: missing (the default), always or never",
    "slots": "amounts by slot, as decimal strings or sizes",
    "env": "environment variables; never overrides what a plugin sets",
    "scratch_size": "bytes of scratch, as a size; unlimited when absent",
    "ports": "services to publish, as tables or as text such as jupyter:http:8080",
    "cluster": "its place in a session of several kernels: role, index, and all hosts",
    "dotfiles": "files below the work directory at its start: tables of path, data and perm",
    **STARTUP_FIELDS,
    "model_definition": "models to serve, in the form of model-definition.yaml",
}
"""Every field of a specification and what it means."""


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """A specification without faults; amounts are still the caller's strings."""

    kernel_id: str
    session_id: str
    image: str
    slots: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    scratch_size: str | None = None
    ports: tuple[ServicePort, ...] = ()
    cluster: Cluster = ALONE
    pull: str = PULLS[0]
    dotfiles: tuple[Dotfile, ...] = ()
    startup: Startup = NOTHING
    model_definition: tuple[ModelService, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data; what is not asked for is left out where it came later."""
        data = {name: getattr(self, name) for name in FIELDS if name not in _LATER}
        if self.ports:
            data["ports"] = [port.to_data() for port in self.ports]
        if self.cluster != ALONE:
            data["cluster"] = self.cluster.to_data()
        if self.pull != PULLS[0]:
            data["pull"] = self.pull
        if self.dotfiles:
            data["dotfiles"] = [file.to_data() for file in self.dotfiles]
        if self.model_definition:
            data["model_definition"] = to_data(self.model_definition)
        return {**data, **self.startup.to_data()}

    @property
    def digest(self) -> str:
        """A digest of all that was asked for, to tell a repetition from a contradiction."""
        pair = self.cluster.ssh_keypair
        given = {"ssh_keypair": [pair.public_key, pair.private_key]} if pair else {}
        text = json.dumps({**self.to_data(), **given}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Faults:
    """Faults gathered while a specification is read."""

    def __init__(self) -> None:
        self.errors: list[AgentError] = []

    def add(self, message: str, hint: str | None = None) -> None:
        """Note a fault in plain words."""
        self.errors.append(InvalidSpec(message, hint=hint))

    def extend(self, errors: Sequence[AgentError]) -> None:
        """Note faults that others found."""
        self.errors.extend(errors)

    def within(self, prefix: str) -> list[AgentError]:
        """Return the faults as those of one of several specifications."""
        if not prefix:
            return self.errors
        return [
            type(error)(f"{prefix}{error.message}", hint=error.hint, details=error.details)
            for error in self.errors
        ]

    def raise_if_any(self) -> None:
        """Raise the only fault as itself, or all of them as one InvalidSpec."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise InvalidSpec(
                f"the kernel specification has {bullet_list([*map(_line, self.errors)])}",
                details={"faults": [error.to_dict() for error in self.errors]},
            )


def _line(error: AgentError) -> str:
    """Show one fault of several with its own hint; what all have is said once, after them."""
    own = error.hint if error.hint != InvalidSpec.hint else None
    return f"{error.message} ({own})" if own else error.message


def entry_size(name: str, value: str) -> int:
    """Count the bytes of a variable as a process has it."""
    return len(f"{name}={value}".encode("utf-8", "surrogatepass"))


def read_spec(data: Mapping[str, Any], faults: Faults) -> KernelSpec:
    """Read a caller's specification; faults are noted, and a placeholder stands in for each."""
    for name in sorted(data.keys() - FIELDS.keys(), key=str):
        near = difflib.get_close_matches(str(name), FIELDS, 1)
        suggestion = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FIELDS)}"
        faults.add(f"spec: unknown field {name!r}; {suggestion}")
    kernel_id = _id(data, "kernel_id", faults) or str(uuid.uuid4())
    image = data.get("image")
    if not isinstance(image, str) or not image:
        faults.add("image: a name is required", "`agentctl images list` shows what this node has.")
    models = _models(data, faults)
    return KernelSpec(
        kernel_id=kernel_id,
        session_id=_id(data, "session_id", faults) or kernel_id,
        image=image if isinstance(image, str) else "",
        slots=_strings(data, "slots", faults),
        env=_environment(data, faults),
        scratch_size=_size(data, "scratch_size", faults),
        ports=_ports(data, models, faults),
        cluster=_cluster(data, faults),
        pull=_pull(data, faults),
        dotfiles=_dotfiles(data, faults),
        startup=_startup(data, faults),
        model_definition=models,
    )


def _pull(data: Mapping[str, Any], faults: Faults) -> str:
    value = data.get("pull", PULLS[0])
    if not isinstance(value, str) or value not in PULLS:
        faults.add(f"pull: {value!r} is not one of {', '.join(PULLS)}")
        return PULLS[0]
    return value


def _cluster(data: Mapping[str, Any], faults: Faults) -> Cluster:
    cluster, found = read_cluster(data.get("cluster"))
    for fault in found:
        faults.add(fault)
    return cluster


def _id(data: Mapping[str, Any], name: str, faults: Faults) -> str | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _ID.fullmatch(value):
        faults.add(f"{name}: {value!r} is not 1 to 63 letters, digits, '-' and '_'")
        return None
    return value


def _size(data: Mapping[str, Any], name: str, faults: Faults) -> str | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        faults.add(f"{name}: {value!r} is not a string")
        return None
    try:
        Amount.parse_size(value)
    except ValueError as exc:
        faults.add(f"{name}: {exc}")
        return None
    return value


def _ports(
    data: Mapping[str, Any], models: Sequence[ModelService], faults: Faults
) -> tuple[ServicePort, ...]:
    services, wrong = read_services(data.get("ports"))
    for fault in wrong:
        faults.add(f"ports: {fault}")
    everything, wrong = published(models, services)
    for fault in wrong:
        faults.add(f"model_definition: {fault}")
    return everything


def _models(data: Mapping[str, Any], faults: Faults) -> tuple[ModelService, ...]:
    models, wrong = read_models(data.get("model_definition"))
    for fault in wrong:
        faults.add(f"model_definition: {fault}")
    return models


def _dotfiles(data: Mapping[str, Any], faults: Faults) -> tuple[Dotfile, ...]:
    files, wrong = read_dotfiles(data.get("dotfiles"))
    for fault in wrong:
        faults.add(f"dotfiles: {fault}")
    if data.get("bootstrap_script") is not None and any(file.path == BOOTSTRAP for file in files):
        faults.add(f"dotfiles: {BOOTSTRAP} is where the bootstrap_script is")
    return files


def _startup(data: Mapping[str, Any], faults: Faults) -> Startup:
    startup, wrong = read_startup(data)
    for fault in wrong:
        faults.add(fault)
    return startup


def _strings(data: Mapping[str, Any], name: str, faults: Faults) -> dict[str, str]:
    value = data.get(name, {})
    if not isinstance(value, Mapping):
        faults.add(f"{name}: {value!r} is not a table of strings")
        return {}
    bad = [key for key, item in value.items() if not (isinstance(key, str) and _is_text(item))]
    for key in bad:
        faults.add(f"{name}.{key}: {value[key]!r} is not a string")
    return {key: item for key, item in value.items() if key not in bad}


def _is_text(item: object) -> bool:
    return isinstance(item, str)


def _is_encodable(value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _environment(data: Mapping[str, Any], faults: Faults) -> dict[str, str]:
    env = _strings(data, "env", faults)
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name):
            faults.add(f"env: {name!r} is not a name of letters, digits and '_'")
        if "\0" in value:
            faults.add(f"env.{name}: the value has a NUL character")
        if not _is_encodable(value):
            faults.add(f"env.{name}: the value has a character that is none")
    if sum(len(name) + len(value) for name, value in env.items()) > _ENV_BOUND:
        faults.add(f"env: larger than {_ENV_BOUND >> 10} KiB in all")
        return {}
    for name in [name for name, value in env.items() if entry_size(name, value) > LONGEST_ENTRY]:
        faults.add(
            f"env.{name}: longer than {LONGEST_ENTRY} bytes with its name",
            "Linux starts no process with such a variable; put the value into a file.",
        )
    return env
