"""The composition root: what was begun is given back, and what goes on for ever survives faults."""

import asyncio
import os
import signal
import sqlite3
import threading
from types import SimpleNamespace

import pytest
from agent_backend_process.backend import ProcessBackend

from agent_core import agent as composition
from agent_core.agent import Agent, serve
from agent_core.client import AgentClient
from agent_core.config.loader import load
from agent_core.contracts.errors import LedgerFailed, PluginError, Reconciling
from agent_core.contracts.info import Support
from agent_core.kernels.owners import Owners
from agent_core.kernels.user import OWN
from agent_core.ledger import StateLock
from agent_core.resources.placement import Strategy

DEADLINE = 30
CONFIG = """
[agent]
id = "t"
rpc-listen-addr = "none"
var-base-path = "{root}/var"
ipc-base-path = "{root}/run"
pid-file = "{root}/pid"

[container]
scratch-root = "{root}/scratches"
"""


@pytest.fixture
def configured(tmp_path_factory):
    """The configuration of an agent in a directory of its own."""
    root = tmp_path_factory.mktemp("a")

    def make(**overrides):
        path = root / "agent.toml"
        path.write_text(CONFIG.format(root=root))
        return load(path, overrides).config

    return make


def run(body):
    async def main():
        async with asyncio.timeout(DEADLINE):
            return await body()

    return asyncio.run(main())


def given_back(config):
    """Assert that another agent could start now."""
    lock = StateLock(config.paths.state)
    lock.acquire()
    lock.release()
    assert not config.agent.pid_file.exists()
    assert "ledger" not in {thread.name for thread in threading.enumerate()}


def test_an_agent_that_starts_and_stops_gives_everything_back(configured):
    config = configured()

    async def body():
        agent = Agent(config)
        await agent.start()
        assert config.agent.pid_file.exists()
        await agent.stop()
        await agent.stop()
        assert len(asyncio.all_tasks()) == 1

    run(body)
    given_back(config)


def test_a_start_that_fails_half_way_gives_everything_back(configured, monkeypatch):
    config = configured()

    async def refuse(self, *_):
        raise PluginError("nothing to serve with")

    monkeypatch.setattr(Agent, "_serve", refuse)

    async def body():
        with pytest.raises(PluginError, match="nothing to serve with"):
            await Agent(config).start()
        assert len(asyncio.all_tasks()) == 1

    run(body)
    given_back(config)


def test_a_ledger_that_is_too_new_stops_the_start_and_is_left_alone(configured):
    config = configured()
    config.paths.state.mkdir(parents=True)
    path = config.paths.state / "ledger.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    async def body():
        with pytest.raises(LedgerFailed, match="version 99"):
            await Agent(config).start()

    run(body)
    given_back(config)


def test_an_agent_that_does_not_know_what_runs_serves_refuses_and_asks_again(
    configured, monkeypatch
):
    config = configured()
    answers = asyncio.Event()
    listed = ProcessBackend.list

    async def reluctant(self, owner):
        if not answers.is_set():
            raise PluginError("the runtime does not answer")
        return await listed(self, owner)

    monkeypatch.setattr(ProcessBackend, "list", reluctant)

    async def body():
        agent = Agent(config)
        await agent.start()
        async with AgentClient(str(config.paths.rpc_socket)) as client:
            status = await client.get_status()
            assert [c.code for c in status.conditions] == ["ledger_reconciling"]
            assert any("does not answer" in warning for warning in status.warnings)
            assert "does not answer" in (await client.show_ledger()).reconciling
            with pytest.raises(Reconciling):
                await client.create_kernel({"image": "python"})
            with pytest.raises(Reconciling):
                await client.backup_ledger()
            answers.set()
            while (await client.get_status()).conditions:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            assert (await client.plan_kernel({"image": "python"})).granted
        await agent.stop()

    run(body)
    given_back(config)


def test_a_signal_during_a_start_that_hangs_ends_it(configured, monkeypatch):
    config = configured()
    hanging = asyncio.Event()

    async def hang(self):
        hanging.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Agent, "_load_plugins", hang)

    async def body():
        serving = asyncio.ensure_future(serve(config))
        await hanging.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    run(body)
    given_back(config)


def test_the_owners_stop_after_the_server_and_before_the_plugins(configured, monkeypatch):
    order = []

    def noting(cls, name, label):
        original = getattr(cls, name)

        async def noted(self, *args, **keywords):
            order.append(label)
            return await original(self, *args, **keywords)

        monkeypatch.setattr(cls, name, noted)

    noting(composition.RpcServer, "stop", "server")
    noting(Agent, "_end_periodic", "periodic")
    noting(Owners, "stop", "owners")
    noting(composition.PluginHost, "close_all", "plugins")
    config = configured()

    async def body():
        agent = Agent(config)
        await agent.start()
        await agent.stop()

    run(body)
    assert order == ["server", "periodic", "owners", "plugins"]


def test_what_is_done_again_and_again_survives_its_failures():
    async def body():
        times = 0
        enough = asyncio.Event()

        async def work():
            nonlocal times
            times += 1
            if times == 3:
                enough.set()
            raise OSError("not today")

        task = asyncio.ensure_future(composition._each(0.0, work, "a test"))
        await enough.wait()
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})

    run(body)


# ---- what the configuration says reaches who has to know it -------------------------------------


class Told(Exception):
    """Raised in the place of what is told something, to see what that is."""


@pytest.fixture
def told(configured, monkeypatch):
    """Start an agent up to the making of one thing, and return what that is told."""

    def start(name, **overrides):
        def tell(*arguments, **keywords):
            raise Told(arguments, keywords)

        monkeypatch.setattr(composition, name, tell)

        async def body():
            with pytest.raises(Told) as caught:
                await Agent(configured(**overrides)).start()
            return caught.value.args

        return run(body)

    return start


def test_the_host_is_told_what_its_workers_and_plugins_may_have(told):
    overrides = {"plugins.worker-memory": "64M", "plugins.deadline": "3s"}
    _, keywords = told("PluginHost", **overrides)
    assert keywords["workers"].memory == 64 << 20
    assert keywords["deadline"] == 3


def test_requests_are_split_as_the_strategy_says(told):
    arguments, _ = told("Allocator", **{"resource.allocation-strategy": "evenly"})
    assert arguments[0] is Strategy.EVENLY


def test_a_size_of_scratch_reaches_the_kernels_where_there_are_limits(configured):
    agent = Agent(configured(**{"container.scratch-size": "1G"}))
    record = SimpleNamespace(label="scratch 'x'")
    limited = SimpleNamespace(supports=lambda _: Support.YES)
    assert agent._scratch_size(SimpleNamespace(scratch=SimpleNamespace(info=limited))) == 1 << 30
    plain = SimpleNamespace(supports=lambda _: Support.NO)
    scratch = SimpleNamespace(info=plain, record=record)
    assert agent._scratch_size(SimpleNamespace(scratch=scratch)) is None
    assert "scratch-size has no effect" in agent._warnings[-1]


def test_a_user_of_kernels_that_the_backend_cannot_choose_is_told_to_have_no_effect(configured):
    async def body():
        agent = Agent(configured(**{"container.kernel-uid": 12345}))
        await agent.start()
        try:
            assert agent._services.settings.kernel_user == OWN
            assert any("kernel-uid and kernel-gid have no effect" in w for w in agent._warnings)
        finally:
            await agent.stop()

    run(body)
