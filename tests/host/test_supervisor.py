"""One loaded plugin: its lanes, its deadlines, its guard, and its return from degradation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent_core.contracts.device import ComputeDevice
from agent_core.contracts.errors import (
    ImageNotFound,
    InternalError,
    PluginDisabled,
    PluginError,
    PluginTimeout,
)
from agent_core.host.states import PluginState as S

GATED = """
gate = threading.Event()
def devices(self):
    self.gate.wait(10)
    return []
def measure(self, subjects): return [threading.current_thread().name]
"""


def test_methods_go_to_the_lane_they_belong_to(site):
    site.install("acme", body=GATED)
    site.install("hostdir", kind="scratch")
    host = site.host()

    async def main() -> None:
        await host.open_all()
        acme = host.devices()["acme"]
        assert (await acme.call(ComputeDevice.measure, []))[0].endswith(" measure")
        assert (await acme.call("measure", [], lane="control"))[0].endswith(" control")
        scratch = await host.scratch.call("create", "k1")
        assert scratch.kernel_id == "k1"
        lanes = {lane["lane"]: lane["calls"] for lane in host.scratch.lanes()}
        assert lanes == {"control": 1, "storage": 1}
        with pytest.raises(InternalError, match="no lane 'fast'"):
            await acme.call("devices", lane="fast")
        await host.close_all()

    asyncio.run(main())


def test_measuring_does_not_wait_for_a_slow_control_call(site):
    site.install("acme", body=GATED)
    host = site.host()

    async def main() -> None:
        await host.open_all()
        acme = host.devices()["acme"]
        slow = asyncio.ensure_future(acme.call("devices"))
        async with asyncio.timeout(5):
            assert await acme.call("measure", [])
        assert not slow.done()
        acme.instance.gate.set()
        assert await slow == []
        await host.close_all()

    asyncio.run(main())


def test_a_degraded_plugin_is_ready_again_once_it_answers(site):
    site.install("acme", body=GATED, info="deadlines={'devices': 0.05}")
    host = site.host()

    async def main() -> None:
        await host.open_all()
        acme, record = host.devices()["acme"], host.record("acme")
        with pytest.raises(PluginTimeout):
            await acme.call("devices")
        assert record.state is S.DEGRADED
        assert record.reason == "still in devices() after 0.05 s"
        await acme.call("measure", [])
        assert record.state is S.DEGRADED
        acme.instance.gate.set()
        assert await acme.call("devices") == []
        assert (record.state, record.reason) == (S.READY, "")
        await host.close_all()

    asyncio.run(main())


def test_who_observes_learns_of_each_change_also_of_a_plugin_without_a_worker(site):
    site.install("acme", body=GATED, info="deadlines={'devices': 0.05}")
    host = site.host()
    seen = []
    host.observe(lambda plugin: seen.append((plugin.record.name, plugin.record.state)))

    async def main() -> None:
        await host.open_all()
        acme = host.devices()["acme"]
        for _ in range(3):
            with pytest.raises(PluginTimeout):
                await acme.call("devices")
        acme.instance.gate.set()
        await host.close_all()

    asyncio.run(main())
    assert seen == [("acme", S.DEGRADED)] * 3 + [("acme", S.QUARANTINED)]


def test_calls_that_wait_behind_a_quarantined_plugin_are_refused_at_once(site):
    site.install("acme", body=GATED, info="deadlines={'devices': 0.05}")
    host = site.host()

    async def main() -> list[BaseException]:
        await host.open_all()
        acme = host.devices()["acme"]
        outcomes = await asyncio.gather(
            *[acme.call("devices") for _ in range(8)], return_exceptions=True
        )
        acme.instance.gate.set()
        await host.close_all()
        return outcomes

    outcomes = asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [PluginTimeout] * 3 + [PluginError] * 5
    assert "was quarantined before devices() began" in str(outcomes[3])


def test_deadlines_are_the_plugins_own_then_the_hosts(site):
    site.install("acme", info="deadlines={'devices': 3.5}")
    host = site.host()
    asyncio.run(host.open_all())
    acme = host.devices()["acme"]
    assert [acme.deadline(name) for name in ("devices", "measure", "prepare")] == [3.5, 5.0, 15.0]


def test_a_plugin_that_is_not_open_is_not_called(site):
    site.install("acme", body="def open(self, config): raise PluginDisabled('no card')")
    host = site.host()
    (plugin,) = host._loaded

    async def main() -> None:
        await host.open_all()
        with pytest.raises(PluginError, match="is disabled: no card"):
            await plugin.call("devices")

    asyncio.run(main())


BACKEND = """
async def start_up(self, owner, state_dir):
    self.owner = owner
    if owner == 'hangs': await asyncio.Event().wait()
    if owner == 'raises': raise OSError('no socket')
    if owner == 'exits': sys.exit(5)
    if owner == 'disabled': raise PluginDisabled('no daemon')
async def shut_down(self): print('shut down')
def close(self): print('closed')
async def inspect_image(self, name): raise ImageNotFound(name)
"""


def test_a_backend_is_started_guarded_and_shut_down_before_it_is_closed(site, capfd):
    site.install("process", kind="backend", prelude="import asyncio", body=BACKEND)
    host = site.host()

    async def main() -> None:
        await host.open_all()
        backend = await host.start_backend("node-1", "/state")
        assert backend.instance.owner == "node-1"
        with pytest.raises(ImageNotFound):
            await backend.guard(backend.instance.inspect_image("none"), "inspect_image")
        assert await backend.guard(backend.instance.images(), "images") is None
        await host.close_all()

    asyncio.run(main())
    assert capfd.readouterr().out == "shut down\nclosed\n"


@pytest.mark.parametrize(
    ("owner", "error", "state", "reason"),
    [
        ("hangs", PluginTimeout, S.INIT_FAILED, "still in start_up() after 0.05 s"),
        ("raises", PluginError, S.INIT_FAILED, "failed in start_up(): OSError: no socket"),
        ("exits", PluginError, S.INIT_FAILED, "failed in start_up(): SystemExit: 5"),
        ("disabled", PluginDisabled, S.DISABLED, "no daemon"),
    ],
)
def test_a_backend_that_does_not_start_is_recorded(site, owner, error, state, reason):
    deadline = "deadlines={'start_up': 0.05}"
    site.install("process", kind="backend", prelude="import asyncio", body=BACKEND, info=deadline)
    host = site.host()

    async def main() -> None:
        await host.open_all()
        with pytest.raises(error):
            await host.start_backend(owner, "/state")
        with pytest.raises(PluginError, match=reason.replace("(", r"\(").replace(")", r"\)")):
            _ = host.backend
        await host.close_all()

    asyncio.run(main())
    assert (host.record("process").state, host.record("process").reason) == (state, reason)


def test_a_guard_lets_the_callers_own_timeout_and_cancellation_pass(site):
    site.install("process", kind="backend", prelude="import asyncio", body=BACKEND)
    host = site.host()

    async def main() -> None:
        await host.open_all()
        backend = host.backend
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await backend.guard(asyncio.Event().wait(), "wait", 5)
        task = asyncio.ensure_future(backend.guard(asyncio.Event().wait(), "wait", 5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(PluginTimeout, match="still in wait"):
            await backend.guard(asyncio.Event().wait(), "wait", 0.02)
        await host.close_all()

    asyncio.run(main())
    assert threading.active_count() < 20


INSTANT = """
def describe(self, grants):
    self.thread = threading.current_thread().name
    if grants: raise ValueError('no')
    return ContainerEdits(env={'T': self.thread})
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_an_instant_method_is_called_on_the_loop_where_its_plugin_is_trusted(site, trusted):
    site.install("acme", body=INSTANT, info="instant=('describe',)")
    host = site.host()

    async def main():
        await host.open_all()
        plugin = host.devices()["acme"]
        plugin._instant = frozenset(plugin.info.instant if trusted else ())
        try:
            edits = await plugin.call("describe", ())
            with pytest.raises(PluginError, match="ValueError: no"):
                await plugin.call("describe", (1,))
            return edits.env["T"], plugin.overrides("describe"), plugin.overrides("prepare")
        finally:
            await host.close_all()

    thread, describes, prepares = asyncio.run(main())
    assert (thread == "MainThread") is trusted
    assert (describes, prepares) == (True, False)
