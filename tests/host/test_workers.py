"""Plugins in workers of their own: what hangs, crashes, floods or lies there stays there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import (
    Claim,
    Device,
    Grant,
    Measurement,
    PrepareContext,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import (
    AgentError,
    InvalidSpec,
    PluginContractBroken,
    PluginError,
    PluginTimeout,
    PluginUnavailable,
    Unsupported,
    WrongState,
)
from agent_core.host.states import PluginState as S
from agent_core.host.why import explain
from agent_core.host.worker_keeper import WorkerPolicy

QUICK = WorkerPolicy(first_delay=0.02, longest_delay=0.05, grace=5.0, interval=0.05)
PATIENCE = 20.0


@contextlib.asynccontextmanager
async def opened(host):
    """The host, open; closed whatever the test finds."""
    await host.open_all()
    try:
        async with asyncio.timeout(PATIENCE):
            yield host
    finally:
        await host.close_all(1.0)


class News:
    """What a host tells its listeners, to be awaited."""

    def __init__(self, host) -> None:
        self.told: list[tuple[str, str | None]] = []
        self._more = asyncio.Event()
        host.listen(self._take)

    def _take(self, name: str, why: str | None) -> None:
        self.told.append((name, why))
        self._more.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._more.clear()
            await self._more.wait()

    async def until_back(self, times: int = 1) -> None:
        await self.until(lambda: sum(why is None for _, why in self.told) >= times)


def pid_of(host, name: str = "acme") -> int:
    return host.detail(name)["worker"]["pid"]


def gone(pid: int) -> bool:
    """Whether a process is neither running nor waited for by anybody but us."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def until_gone(pid: int) -> None:
    fd = os.pidfd_open(pid)
    dead = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, dead.set)
    try:
        await asyncio.wait_for(dead.wait(), PATIENCE)
    finally:
        loop.remove_reader(fd)
        os.close(fd)


ALL = """
def devices(self):
    return [Device('a', 'One', (Counter('a', 2**80),), (Offer('acme.device', Amount(1), {'a': 1}),),
            health=Health.DEGRADED, evidence='warm', attributes={'at': os.getpid().__str__()})]
def describe(self, grants):
    return ContainerEdits(env={'ACME': ','.join(g.device_id for g in grants)})
def prepare(self, claim, context):
    return ContainerEdits(env={'DIR': context.config_dir, 'SUM': str(claim.grants[0].amount)})
def release(self, claim):
    if claim.id == 'bad': raise InvalidSpec('no such claim', details={'me': self})
    if claim.id == 'worse': raise OSError('no driver')
def prepared(self): return ('k1.acme',)
def measure(self, subjects):
    return (Measurement('n', float('nan'), 1, subjects[0].kernel_id), Measurement('m', 2, 3.5))
"""
CLAIM = Claim("k1.acme", "k1", 1, "acme", (Grant("acme.device", "a", Amount(10**25 + 1, 2)),))


def test_every_method_of_a_device_works_across_the_process_boundary(site):
    site.install("acme", body=ALL, info="deadlines={'measure': 3}")
    host = site.host({"acme": {"mode": "shared"}}, isolated=True)

    async def main() -> None:
        async with opened(host):
            acme = host.devices()["acme"]
            (device,) = await acme.call("devices")
            assert isinstance(device, Device)
            assert device.attributes == {"at": str(pid_of(host))}
            assert device.counters[0].capacity == 2**80
            assert await acme.call("describe", CLAIM.grants) == ContainerEdits(env={"ACME": "a"})
            edits = await acme.call("prepare", CLAIM, PrepareContext("/c"))
            assert edits.env == {"DIR": "/c", "SUM": str(CLAIM.grants[0].amount)}
            assert await acme.call("release", CLAIM) is None
            assert await acme.call("prepared") == ["k1.acme"]
            first, second = await acme.call("measure", [Subject("k1", (CLAIM,), (1, 2))])
            assert (first.kernel_id, first.value != first.value) == ("k1", True)
            assert second == Measurement("m", 2, 3.5)
            assert acme.deadline("measure") == 3

    asyncio.run(main())
    assert host.record("acme").state is S.READY
    assert "in a worker" in explain(host.detail("acme"))


def test_what_a_plugin_raises_arrives_as_if_it_had_been_raised_here(site):
    site.install("acme", body=ALL)
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            acme = host.devices()["acme"]
            for claim in ("bad", "worse"):
                with pytest.raises(AgentError) as caught:
                    await acme.call("release", Claim(claim, "k", 1, "acme", ()))
                error = caught.value
                if claim == "bad":
                    assert (type(error), error.message) == (InvalidSpec, "no such claim")
                    assert "Acme object" in error.details["me"]
                else:
                    assert type(error) is PluginError
                    assert "failed in release(): OSError: no driver" in error.message
                    assert "raise OSError('no driver')" in error.__cause__.text

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        ("object()", "not plain data"),
        ("'devices'", "is not a sequence"),
        ("[{'id': 'a'}]", "Device"),
        ("[Device(7, 'x')]", "Device.id: 7 is not str"),
        ("['x' * (17 << 20)]", "beyond the bound"),
    ],
)
def test_a_reply_that_is_not_what_the_contract_says_is_refused_and_the_worker_lives(
    site, reply, what
):
    site.install(
        "acme", body=f"def devices(self): return {reply}\ndef prepared(self): return ['k']"
    )
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            acme, pid = host.devices()["acme"], pid_of(host)
            with pytest.raises(PluginContractBroken, match="devices") as caught:
                await acme.call("devices")
            assert what in caught.value.message
            assert await acme.call("prepared") == ["k"]
            assert pid_of(host) == pid

    asyncio.run(main())


DEATHS = {
    "killed": ("os.kill(os.getpid(), 9)", "was killed by SIGKILL in devices()"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV in devices()"),
    "abort": ("os.abort()", "was killed by SIGABRT in devices()"),
    "exit": ("os._exit(3)", "exited with status 3 in devices()"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_dies_in_a_call_fails_that_call_and_is_started_again(site, death):
    how, reason = DEATHS[death]
    body = f"""
    def open(self, config): self.config = config
    def devices(self): {how}
    def prepared(self): return [self.config['mode']]
    """
    site.install("acme", body=body)
    host = site.host({"acme": {"mode": "shared"}}, isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, acme, pid = News(host), host.devices()["acme"], pid_of(host)
            with pytest.raises(PluginUnavailable) as caught:
                await acme.call("devices")
            assert reason in caught.value.message
            assert caught.value.retryable
            await news.until_back()
            assert host.record("acme").state is S.READY
            assert await acme.call("prepared") == ["shared"]
            assert pid_of(host) != pid
            assert host.detail("acme")["worker"]["restarts"] == 1
            assert [why for _, why in news.told] == [None]

    asyncio.run(main())
    trail = [(step.outcome, step.detail) for step in host.record("acme").standing.trail]
    assert any(o == "degraded" and reason.split(" in ")[0] in d for o, d in trail), trail


def test_an_idle_worker_that_is_killed_is_noticed_and_started_again(site):
    site.install("acme")
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, pid = News(host), pid_of(host)
            os.kill(pid, signal.SIGKILL)
            await news.until_back()
            assert pid_of(host) != pid
            assert await host.devices()["acme"].call("devices")

    asyncio.run(main())


def test_while_a_worker_is_down_calls_are_refused_at_once_and_others_answer(site):
    site.install("acme")
    site.install("good")
    slow = WorkerPolicy(first_delay=30, grace=0.0)
    host = site.host(isolated=True, workers=slow)

    async def main() -> None:
        async with opened(host):
            news, acme = News(host), host.devices()["acme"]
            os.kill(pid_of(host), signal.SIGKILL)
            await news.until(lambda: bool(news.told))
            name, why = news.told[0]
            assert name == "acme"
            assert "its worker was killed by SIGKILL; the next start is in 30 s" in why
            record = host.record("acme")
            assert (record.state, record.reason) == (S.DEGRADED, why)
            assert host.detail("acme")["worker"]["pid"] is None
            with pytest.raises(PluginUnavailable):
                await acme.call("devices")
            assert record.state is S.DEGRADED
            assert await host.devices()["good"].call("devices")
            assert (await host.reset("acme")).state is S.READY
            assert await acme.call("devices")

    asyncio.run(main())


def test_a_call_that_hangs_costs_its_deadline_and_the_worker(site):
    body = "def devices(self): threading.Event().wait()\ndef prepared(self): return ['k']"
    site.install("acme", body=body, info="deadlines={'devices': 0.1}")
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, acme, pid = News(host), host.devices()["acme"], pid_of(host)
            with pytest.raises(PluginTimeout, match=r"still in devices\(\) after 0.1 s"):
                await acme.call("devices")
            await news.until_back()
            assert gone(pid)
            assert await acme.call("prepared") == ["k"]
            lanes = {lane["lane"]: lane["stuck"] for lane in acme.lanes()}
            assert lanes == {"control": 0, "measure": 0}

    asyncio.run(main())


def test_a_call_that_hangs_in_c_with_the_interpreters_lock_is_ended_all_the_same(site):
    body = "def devices(self):\n    import ctypes\n    ctypes.PyDLL(None).sleep(60)"
    site.install("acme", body=body, info="deadlines={'devices': 0.1}")
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, pid = News(host), pid_of(host)
            with pytest.raises(PluginTimeout):
                await host.devices()["acme"].call("devices")
            await news.until_back()
            assert gone(pid)

    asyncio.run(main())


def test_hanging_again_and_again_ends_in_quarantine_and_a_reset_leads_out(site, tmp_path):
    hang = tmp_path / "hang"
    hang.touch()
    body = f"""
    def devices(self):
        while os.path.exists({str(hang)!r}): time.sleep(0.01)
        return []
    """
    site.install("acme", body=body, info="deadlines={'devices': 0.1}")
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, acme = News(host), host.devices()["acme"]
            for times in (1, 2):
                with pytest.raises(PluginTimeout):
                    await acme.call("devices")
                await news.until_back(times)
            with pytest.raises(PluginTimeout):
                await acme.call("devices")
            record = host.record("acme")
            assert record.state is S.QUARANTINED
            await news.until(lambda: news.told[-1][1] is not None)
            with pytest.raises(PluginError, match="is quarantined"):
                await acme.call("devices")
            hang.unlink()
            assert (await host.reset("acme")).state is S.READY
            assert await acme.call("devices") == []

    asyncio.run(main())


def test_measuring_goes_on_while_a_control_call_takes_its_time(site, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"""
    def devices(self):
        open({str(gate)!r}).read()
        return []
    """
    site.install("acme", body=body)
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            acme = host.devices()["acme"]
            slow = asyncio.ensure_future(acme.call("devices"))
            assert await acme.call("measure", []) == []
            assert not slow.done()
            await asyncio.to_thread(lambda: gate.open("w").close())
            assert await slow == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        "b'HTTP/1.1 200 OK'",
        "b'\\x00\\x00\\x00\\x02\\xc1\\xc1'",
        "b'\\x00\\x00\\x00\\x01\\x2a'",
        "b'\\xff' * 9",
    ],
)
def test_a_worker_that_sends_garbage_is_killed_and_started_again(site, garbage):
    body = f"""
    def devices(self):
        import stat
        for fd in range(3, 20):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, {garbage})
            except OSError: pass
        return []
    def prepared(self): return ['k']
    """
    site.install("acme", body=body)
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, acme = News(host), host.devices()["acme"]
            with pytest.raises(PluginUnavailable, match=r"was killed: it answered devices\(\)"):
                await acme.call("devices")
            await news.until_back()
            assert await acme.call("prepared") == ["k"]
            assert host.detail("acme")["worker"]["garbled"] == 1

    asyncio.run(main())


def test_a_worker_that_crashes_again_and_again_is_quarantined_once_and_quietly(
    site, tmp_path, caplog
):
    broken = tmp_path / "broken"
    body = f"""
    def open(self, config):
        if os.path.exists({str(broken)!r}): os.abort()
    """
    site.install("acme", body=body)
    host = site.host(isolated=True, workers=QUICK)

    async def main() -> None:
        async with opened(host):
            news, record = News(host), host.record("acme")
            broken.touch()
            os.kill(pid_of(host), signal.SIGKILL)
            await news.until(lambda: bool(news.told))
            assert record.state is S.QUARANTINED
            assert "its worker was killed by SIGABRT in open(); 5 times in 120 s" in record.reason
            assert "plugins reset" in record.hint
            assert "acme" not in host.devices()
            assert len(news.told) == 1
            await host.reset("acme")
            assert record.state is S.DEGRADED
            broken.unlink()
            assert (await host.reset("acme")).state is S.READY
            with pytest.raises(WrongState, match="nothing to reset"):
                await host.reset("acme")

    with caplog.at_level(logging.WARNING, "agent_core.host"):
        asyncio.run(main())
    assert sum("is quarantined" in line for line in caplog.messages) == 1
    assert len(caplog.messages) < 12


def test_a_worker_that_grows_beyond_its_bound_is_started_again(site):
    body = """
    def devices(self):
        def grow(): self.kept = bytearray(os.urandom(1 << 20) * 96)
        threading.Timer(0.1, grow).start()
        return []
    """
    site.install("acme", body=body)
    policy = WorkerPolicy(memory=64 << 20, first_delay=0.02, interval=0.05)
    host = site.host(isolated=True, workers=policy)

    async def main() -> None:
        async with opened(host):
            news = News(host)
            assert await host.devices()["acme"].call("devices") == []
            await news.until_back()
            assert host.detail("acme")["worker"]["resident"] < policy.memory

    asyncio.run(main())
    details = [step.detail for step in host.record("acme").standing.trail]
    assert any("was killed: it grew to" in detail for detail in details), details


def test_a_flood_on_its_output_keeps_no_call_waiting_and_reaches_the_log_in_bounds(site, caplog):
    body = """
    def devices(self):
        print('first words')
        for _ in range(64): os.write(1, b'flood ' * (1 << 17)); os.write(2, b'x' * (1 << 16))
        return []
    """
    site.install("acme", body=body)
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            assert await host.devices()["acme"].call("devices") == []

    with caplog.at_level(logging.DEBUG, "agent_core.host.capture"):
        asyncio.run(main())
    assert any("first words" in line for line in caplog.messages)
    assert sum(map(len, caplog.messages)) < 200_000


def test_what_a_crash_says_is_in_the_record(site):
    site.install("acme", body="def open(self, config): print('about to'); os.abort()")
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            pass

    asyncio.run(main())
    record = host.record("acme")
    assert (record.state, record.reason) == (
        S.INIT_FAILED,
        "its worker was killed by SIGABRT in open()",
    )
    assert "about to" in record.standing.traceback
    assert "Fatal Python error: Aborted" in record.standing.traceback


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os.abort()", "its worker was killed by SIGABRT at import"),
        ("import os; os._exit(0)", "its worker exited with status 0 at import"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_an_import_that_kills_its_process_is_an_import_that_failed(site, source, reason):
    site.install("acme", source)
    site.install("good")
    host = site.host(isolated=True)

    async def main() -> None:
        async with opened(host):
            assert list(host.devices()) == ["good"]

    asyncio.run(main())
    record = host.record("acme")
    assert record.state is S.IMPORT_FAILED
    assert reason in record.reason
    assert "started again" not in record.hint


def test_an_import_that_hangs_with_the_interpreters_lock_costs_its_deadline(site, monkeypatch):
    from agent_core.host import loader, worker_adapter

    monkeypatch.setattr(loader, "IMPORT_DEADLINE", 0.2)
    monkeypatch.setattr(worker_adapter, "START_TIME", 1.0)
    site.install("acme", "import ctypes; ctypes.PyDLL(None).sleep(60)")
    host = site.host(isolated=True)
    record = host.record("acme")
    assert record.state is S.IMPORT_FAILED
    assert "is still importing" in record.reason


def test_a_plugin_that_is_of_no_use_here_keeps_no_worker(site):
    site.install("acme", body="def open(self, config): raise PluginDisabled('no /dev/acme')")
    host = site.host(isolated=True)

    async def main() -> None:
        process = host._loaded[0]._adapter.process
        async with opened(host):
            assert host.record("acme").state is S.DISABLED
            assert gone(process.pid)
            with pytest.raises(Unsupported, match="has no worker"):
                await host.reset("acme")

    asyncio.run(main())


def test_closing_the_host_closes_the_plugin_and_ends_the_worker(site, tmp_path):
    closed = tmp_path / "closed"
    site.install("acme", body=f"def close(self): open({str(closed)!r}, 'w').close()")
    site.install("hangs", body="def close(self): threading.Event().wait()")
    host = site.host(isolated=True)

    async def main() -> list[int]:
        async with opened(host):
            return [pid_of(host, name) for name in ("acme", "hangs")]

    pids = asyncio.run(main())
    assert closed.exists()
    assert all(gone(pid) for pid in pids)
    assert host.record("acme").state is S.READY


def test_a_worker_sees_no_descriptor_of_the_agent_and_no_terminal(site, tmp_path):
    body = """
    def prepared(self):
        links = []
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            try: links.append(os.readlink(f'/proc/self/fd/{fd}'))
            except OSError: pass
        return [*links, str(os.getsid(0) == os.getpid())]
    """
    site.install("acme", body=body)
    host = site.host(isolated=True)

    async def main() -> list[str]:
        with (tmp_path / "secret").open("w") as secret:
            os.set_inheritable(secret.fileno(), True)
            async with opened(host):
                return await host.devices()["acme"].call("prepared")

    *links, leads = asyncio.run(main())
    assert leads == "True"
    assert links[0] == "/dev/null"
    assert not any("secret" in link for link in links)


AGENT = """
import asyncio, os, sys, threading
sys.path.insert(0, {site!r})
from agent_core.config.selection import Selection
from agent_core.host.plugin_host import PluginHost
from agent_core.host.tables import PluginTables
async def main():
    host = PluginHost(Selection(inline={inline!r}), PluginTables())
    host.load()
    await host.open_all()
    worker = host.detail("acme")["worker"]
    imported = [name for name in sys.modules if name.startswith("acme_device")]
    print(worker and worker["pid"], imported, flush=True)
    sys.stdin.readline()
    await host.close_all()
asyncio.run(main())
"""


@contextlib.contextmanager
def agent_of(site, *inline: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds a host, and the line that it prints once its plugins are open."""
    script = AGENT.format(site=str(site.path), inline=inline)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_the_agent_never_imports_a_plugin_that_has_a_worker(site):
    site.install("acme")
    with agent_of(site) as (agent, line):
        pid, _, imported = line.partition(" ")
        assert int(pid)
        assert imported.strip() == "[]"
        agent.stdin.write("\n")
        agent.stdin.close()
        assert agent.wait(PATIENCE) == 0
        assert gone(int(pid))


def test_the_configuration_keeps_a_plugin_inline(site):
    site.install("acme")
    with agent_of(site, "acme") as (_, line):
        assert line == "None ['acme_device_acme_1', 'acme_device_acme_1.plugin']\n"


@pytest.mark.parametrize("busy", ["idle", "holding the lock of its interpreter"])
def test_no_worker_outlives_an_agent_that_is_killed(site, busy):
    # Ten calls of sleep in C, begun by a thread, hold the interpreter's lock all the time.
    prelude = "import ctypes"
    body = """
    def open(self, config):
        threading.Timer(0.2, ctypes.PyDLL(None).sleep, (60,)).start()
    """
    site.install("acme", prelude=prelude, body="" if busy == "idle" else body)
    with agent_of(site) as (agent, line):
        pid = int(line.split()[0])
        agent.kill()

        asyncio.run(until_gone(pid))
    assert gone(pid)
