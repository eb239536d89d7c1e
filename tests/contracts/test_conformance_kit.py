"""The kit is proven by bad plugins: each check fails for its own reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agent_core.testing
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import (
    Claim,
    ComputeDevice,
    Counter,
    Device,
    Grant,
    Measurement,
    Offer,
    PrepareContext,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import PluginContractBroken
from agent_core.contracts.info import (
    MetricInfo,
    MetricScope,
    MetricType,
    PluginInfo,
    SlotInfo,
    SlotType,
)
from agent_core.contracts.scratch import Scratch
from agent_core.testing import ComputeDeviceContract, ScratchManagerContract
from agent_core.testing.plain import from_plain, to_plain

CARD = Device("a", "", (Counter("a", 2),), (Offer("good.device", Amount(1), {"a": 1}),))


class Good(ComputeDevice):
    info = PluginInfo(
        "device",
        "good",
        "a good plugin",
        slots=(SlotInfo("good.device", SlotType.COUNT),),
        metrics=(MetricInfo("good_util", "ratio", MetricType.GAUGE, MetricScope.DEVICE),),
    )

    def devices(self) -> Sequence[Device]:
        return [CARD]

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        return ContainerEdits(env={"GOOD": str(len(grants))} if grants else {})

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        import time

        return [Measurement("good_util", 0.5, time.time(), device_id="a")]


class DoubleIds(Good):
    def devices(self) -> Sequence[Device]:
        return [CARD, CARD]


class NewIds(Good):
    count = 0

    def devices(self) -> Sequence[Device]:
        self.count += 1
        return [replace(CARD, id=f"a{self.count}")]


class Impure(NewIds):
    def devices(self) -> Sequence[Device]:
        return [CARD]

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        self.count += 1
        return ContainerEdits(env={"N": str(self.count)})


class Objects(Good):
    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        return ContainerEdits(env={"N": Path("/dev")})  # type: ignore[dict-item]


class Keeps(Good):
    def __init__(self) -> None:
        self.kept: set[str] = set()

    def prepare(self, claim: Claim, context: PrepareContext) -> ContainerEdits:
        self.kept.add(claim.id)
        return self.describe(claim.grants)

    def prepared(self) -> Sequence[str]:
        return sorted(self.kept)


class NeedsGrants(Keeps):
    def release(self, claim: Claim) -> None:
        if claim.grants:
            self.kept.discard(claim.id)


class Remembers(Keeps):
    def release(self, claim: Claim) -> None:
        self.kept.remove(claim.id)


class Invents(Good):
    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        return [replace(m, metric="bad_util") for m in super().measure(subjects)]


class Unclean(Good):
    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        return [replace(m, value=float("nan")) for m in super().measure(subjects)]


class Zeroes(Good):
    info = replace(
        Good.info,
        metrics=(MetricInfo("good_mem", "bytes", MetricType.GAUGE, MetricScope.KERNEL),),
    )

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        return [Measurement("good_mem", 0, 0.0, kernel_id=s.kernel_id) for s in subjects]


class ClosesOnce(Good):
    def __init__(self) -> None:
        self.handle: list[int] | None = []

    def close(self) -> None:
        assert self.handle is not None
        self.handle = None


class Shares(Good):
    def open(self, config: Mapping[str, Any]) -> None:
        type(self).info = replace(Good.info, summary="changed")


CLAIM = Claim("k.1.good", "k", 1, "good", (Grant("good.device", "a", Amount(1)),))
SUITE = ComputeDeviceContract()

CHECKS: list[tuple[type[ComputeDevice], Callable[[Any], None], str]] = [
    (DoubleIds, lambda d: SUITE.test_the_inventory_is_sound(d), "there 2 times"),
    (NewIds, lambda d: SUITE.test_ids_are_the_same_every_time(d, NewIds, {}), "a2"),
    (Impure, lambda d: SUITE.test_describe_is_pure(d, [CLAIM]), "'N'"),
    (Impure, lambda d: SUITE.test_describing_nothing_needs_nothing(d), "'N'"),
    (Objects, lambda d: SUITE.test_describe_is_pure(d, [CLAIM]), "not plain data"),
    (
        Keeps,
        lambda d: SUITE.test_prepare_and_release_are_idempotent(d, [CLAIM], Path("/tmp")),
        "k.1.good",
    ),
    (
        NeedsGrants,
        lambda d: SUITE.test_a_claim_is_released_by_its_id_alone(d, [CLAIM], Path("/tmp")),
        "k.1.good",
    ),
    (Remembers, lambda d: SUITE.test_releasing_what_was_never_prepared_succeeds(d), "unknown.1.x"),
    (Invents, lambda d: SUITE.test_it_measures_without_any_kernel(d), "not declared"),
    (Unclean, lambda d: SUITE.test_it_measures_what_it_declares(d, [CLAIM]), "nan"),
    (Zeroes, lambda d: SUITE.test_a_kernel_that_has_ended_is_no_error(d), "gone"),
    (ClosesOnce, lambda _: SUITE.test_it_closes_twice(ClosesOnce, {}), "handle"),
    (Shares, lambda _: SUITE.test_two_of_it_do_not_share_state(Shares, {}), "changed"),
]


@pytest.mark.parametrize(("bad", "check", "reason"), CHECKS)
def test_a_bad_plugin_fails_for_its_own_reason(
    bad: type[ComputeDevice], check: Callable[[Any], None], reason: str
) -> None:
    with pytest.raises((AssertionError, TypeError, KeyError, PluginContractBroken), match=reason):
        check(bad())


@pytest.mark.parametrize(("bad", "check", "reason"), CHECKS[:-2])
def test_a_good_plugin_passes_the_same_checks(
    bad: type[ComputeDevice], check: Callable[[Any], None], reason: str
) -> None:
    if bad is not NewIds:
        check(Good())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("import threading\nthreading.Timer(9, print).start()", "starts threads"),
        ("import socket\nkept = socket.socket()", "opens sockets"),
        ("import zmq", "imports .'zmq'.; import them in open"),
        ("import time\ntime.sleep(0.3)", "importing takes"),
    ],
)  # fmt: skip
def test_a_heavy_import_is_found(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_plugin.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    class Suite(ComputeDeviceContract):
        import_budget = 0.25 if "sleep(0.3)" in source else 10.0

    with pytest.raises(AssertionError, match=reason):
        Suite().test_importing_it_is_light("heavy_plugin")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "scratch"},
        {"name": "Bad Name"},
        {"summary": ""},
        {"slots": (SlotInfo("Bad.Slot", SlotType.COUNT),)},
        {"exclusive_slots": ("other.*",)},
        {"metrics": (MetricInfo("x", "percent", MetricType.GAUGE, MetricScope.NODE),)},
        {"metrics": Good.info.metrics * 2},
        {"deadlines": {"open": 0.0}},
    ],
)
def test_an_unsound_info_is_found(changes: dict[str, Any]) -> None:
    SUITE.check_info(Good.info)
    with pytest.raises(AssertionError):
        SUITE.check_info(replace(Good.info, **changes))


@pytest.mark.parametrize("name", ["cpu", "cuda.device", "cuda.device:10g-mig", "tt-n300.device"])
def test_the_names_of_slots_are_slots(name: str) -> None:
    SUITE.check_info(replace(Good.info, slots=(SlotInfo(name, SlotType.COUNT),)))


def test_plain_data_goes_there_and_back() -> None:
    device = replace(CARD, parent="m", numa_node=1, links={"b": "nvlink"})

    assert from_plain(Device, to_plain(device)) == device
    assert from_plain(Scratch, to_plain(Scratch("k", "/p"))) == Scratch("k", "/p")
    with pytest.raises(TypeError, match="not plain data"):
        to_plain({"a": object()})
    with pytest.raises(TypeError, match="not a text"):
        to_plain({1: 2})


def test_the_kit_names_what_it_has_and_nothing_else() -> None:
    assert agent_core.testing.ScratchManagerContract is ScratchManagerContract
    for name in agent_core.testing.__all__:
        assert getattr(agent_core.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        agent_core.testing.Nothing  # noqa: B018
