"""What an image demands is asked of the kernel before anything else is taken."""

from __future__ import annotations

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.backend import Image
from agent_core.contracts.errors import InsufficientResource, Unsupported
from agent_core.contracts.info import SlotInfo, SlotType
from agent_core.kernels.demands import LEAST, check_amounts, check_architecture
from agent_core.resources.catalogue import Catalogue, SlotSpec

CATALOGUE = Catalogue(
    {
        name: SlotSpec(name, name, SlotInfo(name, kind), Amount(1), Amount(1 << 40))
        for name, kind in (("cpu", SlotType.COUNT), ("mem", SlotType.BYTES))
    }
)


def checked(labels, slots):
    named = {f"{LEAST}{slot}": amount for slot, amount in labels.items()}
    return list(check_amounts(Image("i", labels=named), slots, CATALOGUE))


def test_a_kernel_that_asks_for_enough_is_let_through():
    assert checked({"cpu": "1", "mem": "64m"}, {"cpu": "2", "mem": "64m"}) == []
    assert checked({}, {}) == []
    assert checked({"cpu": "0"}, {}) == []


def test_every_shortfall_is_named_at_once_with_what_to_ask_for():
    with pytest.raises(InsufficientResource, match="cpu=2 mem=128m") as refused:
        checked({"cpu": "2", "mem": "128m"}, {"cpu": "1", "mem": "64m"})
    assert refused.value.hint == "Ask for as much: --slot cpu=2 --slot mem=128m"
    with pytest.raises(InsufficientResource, match="mem=1g"):
        checked({"mem": "1g"}, {"cpu": "1"})


@pytest.mark.parametrize("labels", [{"cpu": "bananas"}, {"": "1"}, {"nowhere.device": "1"}])
def test_a_label_that_says_nothing_is_a_warning(labels):
    (warning,) = checked(labels, {"cpu": "1"})
    assert "is passed over" in warning


@pytest.mark.parametrize(
    ("image", "machine"),
    [("amd64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64"), ("", "x86_64")],
)
def test_an_image_of_the_same_machine_by_whatever_name_is_let_through(image, machine):
    assert check_architecture(Image("i", architecture=image), machine) is None


def test_an_image_of_another_machine_is_refused_with_both_names():
    with pytest.raises(Unsupported, match="made for arm64, and this node is amd64"):
        check_architecture(Image("i", architecture="arm64"), "x86_64")
