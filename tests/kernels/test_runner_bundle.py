"""The bundle that kernels are run by: made once for all who need it, and again after a failure."""

import asyncio
import threading

import pytest

from agent_core.contracts.errors import KernelFailed, PluginError
from agent_core.contracts.info import PluginInfo
from agent_core.contracts.runner import KernelRunner, Launch
from agent_core.kernels.runner.bundle import RunnerBundle


class Maker(KernelRunner):
    """Makes a directory, or does as a test says."""

    info = PluginInfo(kind="runner", name="maker")

    def __init__(self):
        self.made = 0
        self.answers = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def launch(self, context):
        return Launch(("/runner",))

    def bundle(self, directory):
        self.may_go_on.wait(30)
        self.made += 1
        answer = self.answers.pop(0) if self.answers else f"{directory}/bundle"
        if isinstance(answer, Exception):
            raise answer
        if answer == f"{directory}/bundle":
            (self.root / "bundle").mkdir(exist_ok=True)
        return answer


async def nobody():
    return []


@pytest.fixture
def maker(tmp_path):
    maker = Maker()
    maker.root = tmp_path
    return maker


def test_it_is_made_once_for_all_who_come_meanwhile(maker, tmp_path):
    async def body():
        bundle = RunnerBundle(maker, tmp_path)
        maker.may_go_on.clear()
        callers = [asyncio.ensure_future(bundle.path()) for _ in range(20)]
        impatient = asyncio.ensure_future(bundle.path())
        await asyncio.sleep(0)
        impatient.cancel()
        maker.may_go_on.set()
        assert {await caller for caller in callers} == {str(tmp_path / "bundle")}
        assert await bundle.path() == str(tmp_path / "bundle")
        assert maker.made == 1
        assert impatient.cancelled()

    asyncio.run(body())


def test_a_failure_is_told_and_the_next_one_tries_again(maker, tmp_path):
    async def body():
        bundle = RunnerBundle(maker, tmp_path)
        maker.answers = [OSError("no space"), KernelFailed("no interpreter", hint="Install it.")]
        with pytest.raises(PluginError, match=r"'maker' failed in bundle\(\): OSError: no space"):
            await bundle.path()
        with pytest.raises(KernelFailed) as refusal:
            await bundle.path()
        assert refusal.value.hint == "Install it."
        await bundle.path()
        assert maker.made == 3

    asyncio.run(body())


def test_what_was_removed_is_made_again(maker, tmp_path):
    async def body():
        bundle = RunnerBundle(maker, tmp_path)
        await bundle.path()
        (tmp_path / "bundle").rmdir()
        await bundle.path()
        assert (tmp_path / "bundle").is_dir()
        assert maker.made == 2

    asyncio.run(body())


@pytest.mark.parametrize("answer", [None, 7, "/no/such/directory"])
def test_a_reply_that_is_no_directory_is_refused(maker, tmp_path, answer):
    async def body():
        bundle = RunnerBundle(maker, tmp_path)
        maker.answers = [answer]
        with pytest.raises(PluginError, match="no directory") as refusal:
            await bundle.path()
        assert repr(answer) in refusal.value.message

    asyncio.run(body())


def test_preparing_raises_nothing_and_closing_waits_for_what_is_being_made(maker, tmp_path):
    async def body():
        bundle = RunnerBundle(maker, tmp_path)
        maker.answers = [OSError("no space")]
        await bundle.prepare(nobody)
        maker.may_go_on.clear()
        making = asyncio.ensure_future(bundle.path())
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(bundle.close())
        await asyncio.sleep(0)
        assert not closing.done()
        maker.may_go_on.set()
        await closing
        assert maker.made == 2
        assert await making == str(tmp_path / "bundle")

    asyncio.run(body())


def test_where_none_is_needed_none_is_made(tmp_path):
    async def body():
        bundle = RunnerBundle(None, tmp_path)
        await bundle.prepare(nobody)
        assert await bundle.path() == ""
        await bundle.close()

    asyncio.run(body())
    assert [*tmp_path.iterdir()] == []


class Forgetful(Maker):
    def __init__(self):
        super().__init__()
        self.forgot = []

    def forget_bundles(self, directory):
        self.forgot.append(directory)


@pytest.mark.parametrize("containers", [["one"], []])
def test_earlier_ones_are_removed_where_no_container_can_use_them(tmp_path, containers):
    maker = Forgetful()
    maker.root = tmp_path

    async def listed():
        return containers

    asyncio.run(RunnerBundle(maker, tmp_path).prepare(listed))
    assert maker.forgot == ([] if containers else [str(tmp_path)])


def test_nothing_is_removed_where_nobody_knows_what_runs(tmp_path):
    maker = Forgetful()
    maker.root = tmp_path

    async def unknown():
        raise PluginError("the engine does not answer")

    asyncio.run(RunnerBundle(maker, tmp_path).prepare(unknown))
    assert maker.made == 1
    assert maker.forgot == []
