"""The typed models of the RPC: what its methods answer.

Answers are open: a client passes over the fields that a newer agent has added.

Amounts are decimal strings, times are seconds since the epoch, durations are seconds. The shapes
here are the shapes of ``agentctl --json``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """The root of all models: frozen, and blind to fields that only a newer agent knows."""

    # Validators are built when first used: a start pays for the models that it needs.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Pong(Model):
    """The answer to a ping: the same text."""

    text: str


CONDITIONS: Final = {
    "state_not_writable": "the ledger cannot be written; creates fail, what runs goes on",
    "ledger_reconciling": "the ledger was lost; nothing is accepted until it is known what runs",
    "ledger_recovered": "the ledger was lost in the last day, and it is known again what runs",
    "ledger_not_backed_up": "the last backup of the ledger failed",
}
"""The codes of conditions, and what they mean."""


class Condition(Model):
    """One thing that is wrong with the agent, or was not long ago: a code and words."""

    code: str
    message: str
    since: float | None = None


class Status(Model):
    """The agent at a glance; ``conditions`` go away by themselves once what they say is mended."""

    agent_id: str
    version: str
    protocol: int
    pid: int
    state: Literal["starting", "ready", "stopping"]
    started_at: float
    backend: str
    isolation: str
    scaling_group: str = "default"
    region: str = ""
    instance_type: str = ""
    public_host: str = ""
    advertised_rpc_addr: str = ""
    state_dir: str
    addresses: list[str]
    kernels: dict[str, int]
    plugins: dict[str, int]
    warnings: list[str] = []
    conditions: list[Condition] = []


class PluginRow(Model):
    """One plugin as ``plugins list`` shows it."""

    name: str
    kind: str
    state: str
    distribution: str
    version: str
    contract: str
    reason: str
    load_ms: float | None = None


class TrailStep(Model):
    """One step of the decision about a plugin."""

    step: str
    outcome: str
    detail: str = ""


class PluginDetail(PluginRow):
    """One plugin as ``plugins show`` and ``plugins why`` show it."""

    summary: str = ""
    entry_point: str = ""
    location: str = ""
    slots: list[dict[str, Any]] = []
    capabilities: dict[str, str] = {}
    facts: dict[str, str] = {}
    trail: list[TrailStep] = []
    traceback: str = ""
    hint: str = ""
    lanes: list[dict[str, Any]] = []
    worker: dict[str, Any] | None = None


class DeviceRow(Model):
    """One device and what it offers."""

    id: str
    plugin: str
    model: str
    health: str
    evidence: str = ""
    withheld: str = ""
    numa_node: int | None = None
    parent: str | None = None
    physical_key: str | None = None
    links: dict[str, str] = {}
    offers: list[str]
    used: dict[str, str]
    attributes: dict[str, str] = {}


class SlotRow(Model):
    """One slot of the node; amounts are decimal strings, bytes for sizes.

    ``free`` is what one more kernel could get. Slots that draw on the same counters share it, so
    taking from one lowers the other's.
    """

    slot: str
    plugin: str
    type: str
    quantum: str
    total: str
    used: str
    free: str
    description: str = ""
    display_unit: str = ""
    state: Literal["known", "unknown"] = "known"


class KernelRow(Model):
    """One kernel as ``kernels list`` shows it."""

    kernel_id: str
    session_id: str
    state: str
    image: str
    reason: str | None
    exit_code: int | None
    created_at: float
    incarnation: int = 1
    slots: dict[str, str] = {}


class StepTiming(Model):
    """How long one step of a create or a destroy took."""

    step: str
    seconds: float
    ledger_seconds: float = 0.0


class GrantRow(Model):
    """One grant of a claim."""

    plugin: str
    slot: str
    device_id: str
    amount: str


class MeasurementRow(Model):
    """One reading of a kernel's use; what could not be read is left out."""

    metric: str
    value: float
    unit: str
    at: float
    capacity: float | None = None


class HoldRow(Model):
    """One thing that is held: a row of the ledger."""

    kind: str
    key: str
    state: str
    owner: str


class PortRow(Model):
    """One port of a kernel and where it is reached; ``address`` is host and port together.

    ``tls`` says that the agent speaks TLS there, with the certificate of the configuration.
    """

    name: str
    protocol: str
    container_port: int
    host: str
    host_port: int
    address: str
    tls: bool = False


class KernelPortRow(PortRow):
    """One port of one of all kernels."""

    kernel_id: str
    session_id: str


class KernelDetail(KernelRow):
    """One kernel as ``kernels show`` shows it."""

    message: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    container: str | None = None
    runner: Literal["connected", "disconnected", "none"] = "none"
    ports: list[PortRow] = []
    grants: list[GrantRow] = []
    holds: list[HoldRow] = []
    timings: list[StepTiming] = []
    usage: list[MeasurementRow] = []
    warnings: list[str] = []
    kill: str = ""


class Created(Model):
    """The answer to a create, sent once PREPARING is committed."""

    kernel_id: str
    session_id: str
    state: str


class SessionCreated(Model):
    """The answer to a create of a session, sent once PREPARING of all its kernels is committed."""

    session_id: str
    kernels: tuple[Created, ...]


class SessionKernel(Model):
    """One kernel of a session."""

    kernel_id: str
    host: str
    state: str
    reason: str | None


class SessionRow(Model):
    """One session with its kernels."""

    session_id: str
    created_at: float
    kernels: tuple[SessionKernel, ...]


class Leak(Model):
    """One thing that is held by nobody, or should be and is not there."""

    kind: str
    key: str
    kernel_id: str | None
    state: str
    detail: str


class ImageRow(Model):
    """One image that can be started."""

    name: str
    digest: str
    architecture: str
    labels: dict[str, str]


class EventItem(Model):
    """One event. Durable ones (transitions) have an id; progress has none."""

    id: str | None
    name: str
    at: float
    kernel_id: str | None = None
    session_id: str | None = None
    data: dict[str, Any] = {}


class LogItem(Model):
    """A piece of a kernel's log."""

    data: bytes


class OutputItem(Model):
    """What a run sends while it runs; `kind` is a message type of the runner contract."""

    kind: Literal[
        "started",
        "output",
        "media",
        "html",
        "truncated",
        "waiting-input",
        "step-finished",
        "completions",
    ]
    stream: str | None = None
    text: str | None = None
    mime: str | None = None
    data: str | None = None
    alt: str | None = None
    more: bool | None = None
    bytes: int | None = None
    prompt: str | None = None
    password: bool | None = None
    step: str | None = None
    exit_code: int | None = None
    matches: list[str] | None = None


class RunResult(Model):
    """How a run ended."""

    run_id: str
    status: str
    exit_code: int | None


class Done(Model):
    """The answer of a method that has nothing to say but that it was done."""


class Completions(Model):
    """The answer to complete_code, best first."""

    matches: list[str]


class Configuration(Model):
    """The configuration in effect by section, secrets masked."""

    values: dict[str, Any]


class Reloaded(Model):
    """What a reload of the configuration has done, by dotted key."""

    applied: list[str]
    needs_restart: list[str]
    warnings: list[str] = []
