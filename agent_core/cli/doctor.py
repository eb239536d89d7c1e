"""Is this node well? What the agent says of itself, and a small kernel that is tried for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from agent_core.cli.options import AgentCommand, assignment, current
from agent_core.cli.output import print_json, shown

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient
    from agent_core.wire.models import KernelDetail, SlotRow

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"

_DEADLINE: Final = 120.0
_MEMORY: Final = "64m"
_SICK: Final = ("import-failed", "init-failed", "degraded", "quarantined", "wrong-contract")

_PROBE: Final = """
echo "kernel=$BACKENDAI_KERNEL_ID"
while read -r line; do echo "given=$line"; done < "$BACKENDAI_CONFIG_DIR/resource.txt"
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    if [ -r "$file" ]; then read -r value < "$file"; echo "memory=$value"; fi
done
while read -r name value; do
    if [ "$name" = Cpus_allowed_list: ]; then echo "cores=$value"; fi
done < /proc/self/status
echo x > doctor.probe && echo "writable=yes"
"""
"""Built-ins of a POSIX shell alone: an image may have no other program."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do when it is not well."""

    what: str
    state: str
    detail: str = ""
    hint: str = ""


@click.command(
    cls=AgentCommand,
    examples="""
        agentctl doctor
        agentctl doctor --image busybox:latest --slot cuda.shares=0.5
        agentctl doctor --no-canary --json
    """,
)
@click.option("--image", help="The canary's image; by default the first that the node has.")
@click.option("--slot", "slots", multiple=True, metavar="NAME=AMOUNT", help="The canary's slots.")
@click.option("--canary/--no-canary", default=True, help="Try a real kernel, the default.")
def doctor(*, image: str | None, slots: tuple[str, ...], canary: bool) -> int:
    """Look after this node: its plugins, what it holds, and a small kernel from birth to end.

    The kernel asks for a core, 64 MiB and, where there is one, a device. What it finds inside is
    compared with what it was given; then it is destroyed, and nothing of it may be left. The exit
    code is 1 when something has failed.
    """
    from agent_core.cli.connection import ask

    wanted = dict(assignment(text, "--slot") for text in slots)
    findings = ask(lambda agent: _examine(agent, image, wanted, canary=canary))
    if current().json:
        print_json([asdict(finding) for finding in findings])
    return int(any(finding.state == FAILED for finding in findings))


async def _examine(
    agent: AgentClient, image: str | None, slots: Mapping[str, str], *, canary: bool
) -> list[Finding]:
    looked = [_told(finding) async for finding in _looked_at(agent)]
    if not canary:
        return looked
    return [*looked, *[_told(finding) async for finding in _tried(agent, image, slots)]]


def _told(finding: Finding) -> Finding:
    if not current().json:
        detail = f": {shown(finding.detail)}" if finding.detail else ""
        click.echo(f"{finding.state:>7}  {shown(finding.what)}{detail}")
        if finding.hint:
            click.echo(f"         {shown(finding.hint)}")
    return finding


# ---- what the agent says -----------------------------------------------------------------------


async def _looked_at(agent: AgentClient) -> AsyncIterator[Finding]:
    status = await agent.get_status()
    yield Finding("agent", OK, f"{status.agent_id}, {status.state}")
    for condition in status.conditions:
        yield Finding(condition.code, WARNING, condition.message)
    plugins = await agent.list_plugins()
    sick = [plugin for plugin in plugins if plugin.state in _SICK]
    for plugin in sick:
        hint = f"`agentctl plugins why {plugin.name}` shows the whole trail."
        yield Finding(f"plugin {plugin.name}", FAILED, f"{plugin.state}: {plugin.reason}", hint)
    if not sick:
        ready = [plugin.name for plugin in plugins if plugin.state == "ready"]
        yield Finding("plugins", OK, f"{len(ready)} ready: {', '.join(ready)}")
    leaks = await agent.list_leaks()
    for leak in leaks:
        what = f"{leak.kind} {leak.key}"
        yield Finding(what, WARNING, leak.detail, "`agentctl leaks --fix` gives back what is safe.")
    if not leaks:
        yield Finding("leaks", OK, "nothing is held by nobody")


# ---- a kernel that is tried --------------------------------------------------------------------


async def _tried(
    agent: AgentClient, image: str | None, slots: Mapping[str, str]
) -> AsyncIterator[Finding]:
    from agent_core.contracts.errors import AgentError

    rows = await agent.list_slots()
    before = _used(rows)
    try:
        spec = {"image": image or await _some_image(agent), "slots": slots or smallest(rows)}
        async with _kernel(agent, spec) as detail:
            took = sum(timing.seconds for timing in detail.timings)
            words = ", ".join(f"{name}={amount}" for name, amount in detail.slots.items())
            what = f"{spec['image']} with {words}, in {took * 1000:.0f} ms"
            yield Finding("canary runs", OK, what)
            said = await _probe(agent, detail.kernel_id)
            bounded = await _bounds_memory(agent)
            for finding in compared(detail, said, bounds_memory=bounded):
                yield finding
    except AgentError as exc:
        yield Finding("canary", FAILED, exc.message, exc.hint or "")
        return
    after, leaks = _used(await agent.list_slots()), await agent.list_leaks()
    if after == before and not leaks:
        yield Finding("canary is gone", OK, "every slot is as it was, and nothing is left")
    else:
        left = [f"{leak.kind} {leak.key}" for leak in leaks]
        changed = [name for name in after if after[name] != before.get(name)]
        yield Finding("canary is gone", FAILED, ", ".join([*left, *changed]))


async def _some_image(agent: AgentClient) -> str:
    from agent_core.contracts.errors import ImageNotFound

    found = await agent.list_images()
    if not found:
        raise ImageNotFound(
            "this node has no image to try", hint="Pull one, or name one with --image."
        )
    return min(found, key=lambda row: ("shell" not in row.labels.values(), row.name)).name


def smallest(rows: Sequence[SlotRow]) -> dict[str, str]:
    """Ask for a core, a little memory, and the least of one device where there is one."""
    asked = {"cpu": "1", "mem": _MEMORY}
    for row in rows:
        is_device = row.slot not in asked and row.state == "known"
        if is_device and Decimal(row.free) >= Decimal(row.quantum) > 0:
            return {**asked, row.slot: row.quantum}
    return asked


def _used(rows: Sequence[SlotRow]) -> dict[str, str]:
    return {row.slot: row.used for row in rows}


@asynccontextmanager
async def _kernel(agent: AgentClient, spec: Mapping[str, Any]) -> AsyncIterator[KernelDetail]:
    """A kernel that runs meanwhile, and is gone afterwards whatever happens."""
    from agent_core.cli.creating import failure

    created = await agent.create_kernel(spec)
    try:
        row = await agent.wait_kernel(created.kernel_id, ["RUNNING"], timeout=_DEADLINE)
        detail = await agent.get_kernel_status(created.kernel_id)
        if row.state != "RUNNING":
            raise failure(detail)
        yield detail
    finally:
        await asyncio.shield(_destroyed(agent, created.kernel_id))


async def _destroyed(agent: AgentClient, kernel_id: str) -> None:
    await agent.destroy_kernel(kernel_id)
    await agent.wait_kernel(kernel_id, ["TERMINATED"], timeout=_DEADLINE)


async def _probe(agent: AgentClient, kernel_id: str) -> list[tuple[str, str]]:
    """Let the kernel say what it finds; pairs of a name and a value."""
    text = ""
    run = agent.execute_code(kernel_id, _PROBE, mode="batch", timeout=_DEADLINE)
    async with aclosing(run) as items:
        async for item in items:
            text += getattr(item, "text", "") or ""
    pairs = (line.partition("=") for line in text.splitlines())
    return [(name, value) for name, equals, value in pairs if equals]


async def _bounds_memory(agent: AgentClient) -> bool:
    for plugin in await agent.list_plugins():
        if plugin.kind == "backend" and plugin.state == "ready":
            detail = await agent.get_plugin(plugin.name)
            return detail.capabilities.get("limits.memory") == "yes"
    return False


def compared(
    detail: KernelDetail, said: Sequence[tuple[str, str]], *, bounds_memory: bool
) -> Iterator[Finding]:
    """Compare what a kernel found inside with what it was given."""
    found = dict(said)
    if not found:
        yield Finding("inside", SKIPPED, "the kernel's code says nothing: it is simulated")
        return
    given = [value for name, value in said if name == "given"]
    for what, well, words in (
        ("environment", found.get("kernel") == detail.kernel_id, found.get("kernel", "nothing")),
        ("scratch", found.get("writable") == "yes", "the work directory can be written"),
        ("resource file", bool(given), f"{len(given)} lines"),
    ):
        yield Finding(what, OK if well else FAILED, words)
    yield _memory(detail, found, bounds_memory=bounds_memory)
    yield _cores(detail, found)
    yield from _devices(detail, given)


def _memory(detail: KernelDetail, found: Mapping[str, str], *, bounds_memory: bool) -> Finding:
    if not bounds_memory:
        return Finding("memory", SKIPPED, "this backend does not bound it")
    asked, limit = _granted(detail, "mem"), found.get("memory", "")
    if not asked:
        return Finding("memory", SKIPPED, "none was asked for")
    with suppress(ValueError):
        if int(limit) <= asked:
            return Finding("memory", OK, f"bounded to {limit} bytes")
    return Finding("memory", FAILED, f"{asked} bytes were granted, and the limit is {limit or '?'}")


def _cores(detail: KernelDetail, found: Mapping[str, str]) -> Finding:
    asked, seen = _granted(detail, "cpu"), count_of(found.get("cores", ""))
    if not asked or asked != int(asked):
        return Finding("cores", SKIPPED, "no whole cores were asked for")
    state = OK if seen <= asked else FAILED
    return Finding("cores", state, f"{found.get('cores') or 'none'} may be used, {asked} granted")


def _granted(detail: KernelDetail, slot: str) -> Decimal:
    return sum((Decimal(each.amount) for each in detail.grants if each.slot == slot), Decimal(0))


def _devices(detail: KernelDetail, given: Sequence[str]) -> Iterator[Finding]:
    text = "\n".join(given)
    for grant in detail.grants:
        if grant.slot in {"cpu", "mem"}:
            continue
        state = OK if grant.device_id in text else WARNING
        words = f"{grant.amount} of {grant.device_id}"
        yield Finding(f"device {grant.slot}", state, words)


def count_of(cores: str) -> int:
    """Count what a list of cores such as ``0-2,5`` names."""
    total = 0
    for part in filter(None, cores.split(",")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total
