"""The simulated runtime against a dict: whatever is done, wherever in it the agent is killed."""

import asyncio
import contextlib
import copy
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import pytest
from agent_backend_dummy import engine as engine_module
from agent_backend_dummy.engine import Engine
from agent_backend_dummy.store import Store, cursor_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent_core.contracts.backend import ContainerSpec, ContainerState, ExitStatus
from agent_core.contracts.errors import Conflict, InvalidArgument, NotFound, WrongState

NAMES = st.sampled_from(("a", "b"))
OWNERS = st.sampled_from(("me", "other"))
STAYS, ENDS, LATER, MISSING = (
    (),
    ("simulate", "exit", "3"),
    ("simulate", "say", "one", "2", "two"),
    ("simulate", "missing"),
)
ARGV = st.sampled_from((STAYS, LATER, ENDS, MISSING))
SECONDS = st.integers(0, 4)
ENDINGS = st.sampled_from((ExitStatus(1), ExitStatus(137, 9, oom=True), ExitStatus(139, 11)))
# Before which statement of an operation its agent is killed; None lets it finish and go on.
KILLS = st.none() | st.integers(1, 6)
KILLED = ExitStatus(137, 9)
START = 1000.0


@dataclass
class Expected:
    """One container as it must be."""

    owner: str
    argv: tuple[str, ...]
    state: ContainerState = ContainerState.CREATED
    started: float | None = None
    exit: ExitStatus | None = None
    due: float | None = None
    ending: ExitStatus | None = None
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class World:
    """The whole runtime as it must be; its operations refuse as the runtime's do."""

    now: float = START
    containers: dict[str, Expected] = field(default_factory=dict)
    events: list[tuple[str, str, ExitStatus | None]] = field(default_factory=list)

    def find(self, name: str) -> Expected:
        if name not in self.containers:
            raise NotFound(name)
        return self.containers[name]

    def create(self, name: str, owner: str, argv: tuple[str, ...]) -> None:
        there = self.containers.setdefault(name, Expected(owner, argv))
        if there.argv != argv:
            raise Conflict(name)

    def start(self, name: str, doom: tuple[float, ExitStatus] | None) -> None:
        container = self.find(name)
        if container.state is ContainerState.RUNNING:
            return
        if container.state is ContainerState.EXITED:
            raise WrongState(name)
        if container.argv == MISSING:
            raise InvalidArgument(name)
        own = {ENDS: (0.0, ExitStatus(3)), LATER: (2.0, ExitStatus(0))}.get(container.argv)
        container.state, container.started = ContainerState.RUNNING, self.now
        self.events.append(("started", name, None))
        if doom or own:
            self.doom(name, *(doom or own))

    def doom(self, name: str, seconds: float, ending: ExitStatus) -> None:
        container = self.find(name)
        if container.state is not ContainerState.RUNNING:
            raise WrongState(name)
        container.due, container.ending = self.now + seconds, ending
        self.pass_time(0)

    def end(self, name: str, status: ExitStatus, at: float) -> None:
        container = self.containers.get(name)
        if container is not None and container.state is ContainerState.RUNNING:
            container.state, container.exit = ContainerState.EXITED, replace(status, finished_at=at)
            container.due = container.ending = None
            self.events.append(("exited", name, container.exit))

    def kill(self, name: str) -> None:
        self.end(name, KILLED, self.now)

    def remove(self, name: str) -> None:
        self.kill(name)
        self.containers.pop(name, None)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        due = [(c.due, name) for name, c in self.containers.items() if c.due is not None]
        for at, name in sorted(each for each in due if each[0] <= self.now):
            self.end(name, self.containers[name].ending, at)


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time, and the runtime's, is what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def time(self) -> float:
        return self.now


class KilledStore(Store):
    """A store whose directory is copied before its n-th statement: what a killed agent leaves."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._directory = directory
        self._left = 0
        self._copy: Path | None = None
        self._db.set_trace_callback(self._count)

    def kill_before(self, statement: int, copied_to: Path) -> None:
        self._left, self._copy = statement, copied_to

    def _count(self, _statement: str) -> None:
        self._left -= 1
        if self._left == 0 and self._copy is not None:
            shutil.copytree(self._directory, self._copy)


def spec_of(name: str, owner: str, argv: tuple[str, ...]) -> ContainerSpec:
    record = {"of": name, "nested": {"list": [1, "two"]}}
    return ContainerSpec(name, owner, "python", argv, {"A": "b"}, "/home/work", record=record)


def seen(engine: Engine) -> tuple[dict[str, Expected], list[tuple[str, str, ExitStatus | None]]]:
    """The runtime as it is, in the words of the model."""
    containers = {}
    for name, each in engine.containers.items():
        paths = [path for path, *_ in engine.store.files(name)]
        files = {path: engine.store.file(name, path) for path in paths}
        argv = {row.name: tuple(json.loads(row.spec)["argv"]) for row in engine.store.rows()}[name]
        containers[name] = Expected(
            each.owner, argv, each.state, each.started, each.exit, each.due, each.ending, files
        )
        assert json.loads(each.record) == spec_of(name, each.owner, argv).record
    events = [(e.kind, e.name, e.exit) for _, e in engine.store.events(0, 10_000)]
    return containers, events


class RuntimeMachine(RuleBasedStateMachine):
    """Containers, their ends and their events, over agents that are killed at any statement."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="dummy-model-"))
        self.places = (self.root / str(number) for number in itertools.count())
        self.world = World()
        self.loop = Clock()
        self.patch = mock.patch.object(engine_module, "time", self.loop)
        self.patch.start()
        self.cursor, self.heard = cursor_of(0), 0
        self.open(next(self.places))

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.engine.close()
            self.engine.store.close()
            self.loop.close()
            self.patch.stop()
            shutil.rmtree(self.root)

    # ---- lives of agents ----

    def open(self, place: Path) -> None:
        self.store = KilledStore(place)
        self.engine = Engine(self.store)
        self.run(self.engine.open)

    def run(self, work, *arguments):
        """Do something within the loop, then let what has fallen due happen."""

        async def body():
            try:
                return work(*arguments)
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)

        return self.loop.run_until_complete(body())

    def reopen(self, place: Path) -> None:
        self.engine.close()
        self.store.close()
        self.open(place)

    def both(self, kill, on_engine, on_world, *between) -> None:
        """Do the same in both; killed on its way, it is done or not, or one of those between."""
        place = next(self.places)
        worlds = [copy.deepcopy(self.world)]
        for step in (*between, on_world):
            worlds.append(copy.deepcopy(self.world))
            refused = self.refusal(step, worlds[-1])
        if kill is not None:
            self.store.kill_before(kill, place)
        assert self.refusal(self.run, on_engine) == refused
        self.store.kill_before(0, place)
        if place.exists():
            self.reopen(place)
            self.world = next((w for w in worlds if self.is_as(w)), worlds[-1])
        else:
            self.world = worlds[-1]

    def is_as(self, world: World) -> bool:
        return seen(self.engine) == (world.containers, world.events)

    @staticmethod
    def refusal(work, *arguments) -> type[Exception] | None:
        try:
            work(*arguments)
        except (Conflict, InvalidArgument, NotFound, WrongState) as exc:
            return type(exc)
        return None

    # ---- what happens ----

    @rule(name=NAMES, owner=OWNERS, argv=ARGV, kill=KILLS)
    def create(self, name, owner, argv, kill) -> None:
        there = self.world.containers.get(name)
        owner = there.owner if there else owner
        spec = spec_of(name, owner, argv)
        self.both(kill, lambda: self.engine.create(spec), lambda w: w.create(name, owner, argv))

    @rule(name=NAMES, doom=st.none() | st.tuples(SECONDS, ENDINGS), kill=KILLS)
    def start(self, name, doom, kill) -> None:
        self.both(kill, lambda: self.engine.start(name, doom), lambda w: w.start(name, doom))

    @rule(name=NAMES, argv=st.sampled_from((LATER, STAYS)))
    def one_runs(self, name, argv) -> None:
        # Chance alone seldom makes one that runs, and most of what there is to see is of those.
        self.remove(name=name, kill=None)
        self.create(name=name, owner="me", argv=argv, kill=None)
        self.start(name=name, doom=None, kill=None)

    @rule(name=NAMES, seconds=SECONDS, ending=ENDINGS, kill=KILLS)
    def doom(self, name, seconds, ending, kill) -> None:
        arguments = (name, seconds, ending)
        self.both(kill, lambda: self.engine.doom(*arguments), lambda w: w.doom(*arguments))

    @rule(name=NAMES, kill=KILLS)
    def end(self, name, kill) -> None:
        self.both(kill, lambda: self.engine.end(name, 137, 9), lambda w: w.kill(name))

    @rule(name=NAMES, kill=KILLS)
    def remove(self, name, kill) -> None:
        ended = lambda w: w.kill(name)  # noqa: E731 - a removal may be cut short after the end
        self.both(kill, lambda: self.engine.remove(name), lambda w: w.remove(name), ended)

    @rule(name=NAMES, path=st.sampled_from(("/x", "/y")), data=st.binary(max_size=8), kill=KILLS)
    def put_file(self, name, path, data, kill) -> None:
        if name in self.world.containers:
            put = lambda: self.store.put_file(name, path, 0o644, 0.0, data)  # noqa: E731
            files = lambda w: w.containers[name].files.update({path: data})  # noqa: E731
            self.both(kill, put, files)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds) -> None:
        self.loop.now += seconds
        self.run(lambda: None)
        self.world.pass_time(seconds)

    @rule(away=SECONDS)
    def an_agent_is_killed_and_another_comes(self, away) -> None:
        place = next(self.places)
        shutil.copytree(self.store._directory, place)
        self.loop.now += away
        self.reopen(place)
        self.world.pass_time(away)

    @rule(away=SECONDS)
    def an_agent_ends_and_another_comes(self, away) -> None:
        self.engine.close()
        self.store.close()
        self.loop.now += away
        self.open(self.store._directory)
        self.world.pass_time(away)

    @rule(most=st.integers(1, 3))
    def events_are_read_on(self, most) -> None:
        wanted = self.world.events[self.heard : self.heard + most]
        got = self.loop.run_until_complete(self.read(len(wanted)))
        assert [(e.kind, e.name, e.exit) for e in got] == wanted
        self.heard += len(wanted)

    async def read(self, count):
        got = []
        if count:
            async with contextlib.aclosing(self.engine.events(self.cursor)) as events:
                async for event in events:
                    got.append(event)
                    self.cursor = event.cursor
                    if len(got) == count:
                        break
        return got

    # ---- what always holds ----

    @invariant()
    def the_runtime_is_as_the_dict(self) -> None:
        if hasattr(self, "engine"):
            assert seen(self.engine) == (self.world.containers, self.world.events)

    @invariant()
    def what_is_not_there_has_no_files(self) -> None:
        if hasattr(self, "engine"):
            gone = {"a", "b"} - self.world.containers.keys()
            assert not any(self.store.files(name) for name in gone)

    @invariant()
    def owners_see_their_own_alone(self) -> None:
        if hasattr(self, "engine"):
            for owner in ("me", "other"):
                wanted = {n for n, c in self.world.containers.items() if c.owner == owner}
                assert {each.name for each in self.engine.of(owner)} == wanted


RuntimeMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestRuntime = RuntimeMachine.TestCase


@pytest.fixture
def machine():
    machine = RuntimeMachine()
    machine.begin()
    yield machine
    machine.teardown()


@pytest.mark.parametrize("again", ["doom", "one_runs"])
def test_an_end_that_was_put_off_does_not_come_when_it_was_due_before(machine, again):
    machine.one_runs(name="a", argv=LATER)
    machine.time_passes(seconds=1)
    if again == "doom":
        machine.doom(name="a", seconds=2, ending=ExitStatus(1), kill=None)
    else:
        machine.one_runs(name="a", argv=LATER)
    machine.time_passes(seconds=1)
    assert machine.engine.find("a").state is ContainerState.RUNNING
    machine.time_passes(seconds=1)
    assert machine.engine.find("a").exit.finished_at == START + 3
    machine.the_runtime_is_as_the_dict()


@pytest.mark.parametrize("statement", range(1, 9))
def test_a_removal_that_is_cut_short_leaves_no_files_to_the_next_of_its_name(machine, statement):
    machine.one_runs(name="a", argv=STAYS)
    machine.put_file(name="a", path="/x", data=b"secret", kill=None)
    machine.remove(name="a", kill=statement)
    machine.remove(name="a", kill=None)
    machine.create(name="a", owner="me", argv=STAYS, kill=None)
    assert machine.store.files("a") == []


def test_what_a_killed_process_was_told_is_done_is_there_afterwards(tmp_path):
    writer = """
import sys
from pathlib import Path
from agent_backend_dummy.engine import Engine
from agent_backend_dummy.store import Store
from agent_core.contracts.backend import ContainerSpec

engine = Engine(Store(Path(sys.argv[1])))
for number in range(100_000):
    engine.create(ContainerSpec(f"c{number}", "me", "python", (), {}, "/"))
    engine.start(f"c{number}")
    print(number, flush=True)
"""
    command = [sys.executable, "-c", writer, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while int(last := process.stdout.readline()) < 300:
            continue
        process.kill()
        last = [last, *process.stdout.read().splitlines(keepends=True)]
    done = max(int(line) for line in last if line.endswith("\n"))
    store = Store(tmp_path)
    rows = {row.name: row.state for row in store.rows()}
    events = [event.name for _, event in store.events(0, 100_000)]
    store.close()
    assert {f"c{n}" for n in range(done + 1)} <= rows.keys()
    assert [rows[f"c{n}"] for n in range(done + 1)] == [ContainerState.RUNNING] * (done + 1)
    assert events[: done + 1] == [f"c{n}" for n in range(done + 1)]
