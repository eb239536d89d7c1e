"""Ports go round: never two holders, none before its cooldown, the longest free one first."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_core.kernels.rotation import FOREIGN_PAUSE, Rotation

PORTS = range(30000, 30008)
INSIDE = st.sampled_from(PORTS)
ANY = st.sampled_from([*PORTS, 29999, 30008])
HOLDERS = st.sampled_from("abc")
LONG_AGO = float("-inf")


class Rotating(RuleBasedStateMachine):
    """A rotation beside a model that looks at everything each time."""

    @initialize(cooldown=st.sampled_from([0.0, 5.0, 60.0]), first=INSIDE)
    def begin(self, cooldown, first):
        self.cooldown, self.now = cooldown, 0.0
        self.rotation = Rotation(PORTS, cooldown, first)
        self.free = [(port, LONG_AGO) for port in [*range(first, 30008), *range(30000, first)]]
        self.suspects = []
        self.held = {}
        self.strangers = set()
        self.released = {}

    # ---- what happens ----

    @rule(seconds=st.sampled_from([0.5, 5.0, FOREIGN_PAUSE, 60.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(port=INSIDE)
    def a_stranger_comes_or_goes(self, port):
        self.strangers ^= {port}

    @rule(holder=HOLDERS, count=st.integers(0, 9))
    def take(self, holder, count):
        good, bad = self.found(count)
        taken = self.rotation.take(holder, count, self.now, lambda port: port not in self.strangers)
        assert taken == (tuple(good) if len(good) == count else None)
        self.without([*good, *bad])
        self.suspects += [(port, self.now + FOREIGN_PAUSE) for port in bad]
        if taken is None:
            self.free = [*((port, LONG_AGO) for port in good), *self.free]
            return
        for port in taken:
            assert port not in self.held
            assert port not in self.strangers
            assert self.now - self.released.get(port, LONG_AGO) >= self.cooldown
            self.held[port] = holder

    @rule(holder=HOLDERS, count=st.integers(1, 9))
    def a_look_that_fails_takes_nothing(self, holder, count):
        def fails(port):
            raise OSError(port)

        ready = [port for port, due in [*self.free, *self.suspects] if due <= self.now]
        if ready:
            with pytest.raises(OSError):
                self.rotation.take(holder, count, self.now, fails)
            self.without(ready[:1])
            self.free = [(ready[0], LONG_AGO), *self.free]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data):
        port = data.draw(st.sampled_from(sorted(self.held)))
        holder = self.held.pop(port)
        assert not self.rotation.release(f"not {holder}", port, self.now)
        assert self.rotation.release(holder, port, self.now)
        if port in PORTS:
            self.free.append((port, self.now + self.cooldown))
            self.released[port] = self.now

    @rule(holder=HOLDERS, port=ANY)
    def give_back_what_is_not_ones_own(self, holder, port):
        if self.held.get(port) != holder:
            assert not self.rotation.release(holder, port, self.now)

    @rule(holder=HOLDERS, port=ANY)
    def restore(self, holder, port):
        if self.held.get(port, holder) != holder:
            with pytest.raises(ValueError, match="is held by"):
                self.rotation.restore(holder, port)
            return
        self.rotation.restore(holder, port)
        self.held[port] = holder
        self.without([port])

    # ---- what is always so ----

    @invariant()
    def every_port_is_where_the_model_has_it(self):
        assert dict(self.rotation.held) == self.held
        assert list(self.rotation.foreign) == [port for port, _ in self.suspects]
        assert list(self.rotation._free.items()) == self.free
        inside = [*(p for p, _ in [*self.free, *self.suspects]), *self.held]
        assert sorted(port for port in inside if port in PORTS) == [*PORTS]

    @invariant()
    def what_rests_and_how_long_to_wait_is_known(self):
        assert self.rotation.cooling(self.now) == sum(due > self.now for _, due in self.free)
        dues = sorted(due for _, due in [*self.free, *self.suspects])
        for count in range(1, 10):
            expected = max(0.0, dues[count - 1] - self.now) if count <= len(dues) else None
            assert self.rotation.wait(count, self.now) == expected

    # ---- the model ----

    def found(self, count):
        """What a take of so many ports finds to be good, and what it finds to be bad."""
        good, bad = [], []
        for port, due in [*self.free, *self.suspects]:
            if due <= self.now and len(good) < count:
                (bad if port in self.strangers else good).append(port)
        return good, bad

    def without(self, ports):
        self.free = [each for each in self.free if each[0] not in ports]
        self.suspects = [each for each in self.suspects if each[0] not in ports]


TestRotating = Rotating.TestCase


def test_a_take_looks_at_no_more_ports_than_it_takes_however_many_there_are():
    rotation = Rotation(range(1024, 65536), 60.0)
    seen = []

    def usable(port):
        seen.append(port)
        return True

    for number in range(500):
        assert rotation.take(f"k{number}", 3, 0.0, usable) is not None
    assert seen == [*range(1024, 1024 + 1500)]


def test_a_port_of_a_stranger_is_not_looked_at_again_at_once():
    rotation = Rotation(range(30000, 30002), 0.0)
    seen = []

    def usable(port):
        seen.append(port)
        return port != 30000

    for now in (0.0, 1.0, FOREIGN_PAUSE, FOREIGN_PAUSE + 1):
        rotation.take("k", 2, now, usable)
    assert seen == [30000, 30001, 30001, 30001, 30000, 30001]
