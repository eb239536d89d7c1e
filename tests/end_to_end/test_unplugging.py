"""A real agent whose devices fall ill, are pulled out and come back while kernels hold them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent_core.contracts.errors import InsufficientResource

CARD = """
[[devices]]
mother_uuid = "{id}"
model_name = "CUDA GPU"
subproc_count = 108
memory_size = "40G"
{more}
"""
VISIBLE = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEADLINE = 30.0


class Cards:
    """The file of mock accelerators of one node, which is edited while the agent runs."""

    def __init__(self, node) -> None:
        self.node = node
        self.file = node.root / "cards.toml"
        example, own = f"{EXAMPLES}/mock-accelerator.toml", str(self.file)
        node.config.write_text(node.config.read_text().replace(example, own))

    def start(self) -> None:
        """Start the node; it looks at its devices often."""
        self.node.start(AGENT_RESOURCE__DEVICE_INTERVAL="100ms")

    def are(self, more: str = "", **cards: str) -> None:
        """Write the file anew: for each card by its id what else is said of it."""
        new = self.file.with_suffix(".new")
        listed = "".join(CARD.format(id=name, more=text) for name, text in cards.items())
        new.write_text(f'slot_name = "cuda"\n{listed}{more}')
        new.replace(self.file)

    def become(self, **health: str) -> None:
        """Wait until the agent has seen each device in this condition."""
        deadline, seen = time.monotonic() + DEADLINE, {}
        while seen != health:
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)
            seen = {row.id: row.health for row in self.rows()}

    def rows(self):
        """The mock devices as the agent lists them."""
        return [row for row in self.node.ask("list_devices") if row.plugin == "mock"]

    def free(self) -> dict[str, str]:
        """What is free of the mock slots."""
        return {r.slot: r.free for r in self.node.ask("list_slots") if r.plugin == "mock"}


@pytest.fixture
def cards(node):
    """The cards of a node that is not started."""
    return Cards(node)


def test_a_kernel_keeps_a_device_that_is_pulled_out_also_over_a_restart(node, cards):
    cards.are(d1="")
    cards.start()
    kernel = node.create(slots={"mem": "32m", "cuda.shares": "0.5"})
    cards.are(d1="", d2="")
    cards.become(d1="healthy", d2="healthy")
    assert cards.free() == {"cuda.device": "1", "cuda.shares": "1.5"}

    cards.are(d2="")
    cards.become(d1="lost", d2="healthy")
    assert node.run(kernel, VISIBLE)[0] == "d1\n"
    assert cards.free() == {"cuda.device": "1", "cuda.shares": "1"}
    assert "it is not in" in node.agentctl("devices", "list")
    assert node.ask("explain_kernel", kernel).notes == (
        f"claim {kernel}.1.mock: plugin 'mock' reports d1 as lost; it stands",
    )
    with pytest.raises(InsufficientResource, match="1 free"):
        node.create(wait=False, slots={"mem": "32m", "cuda.device": "2"})

    # After a restart nobody remembers the device; the claim on it stands, and says so.
    node.end()
    cards.start()
    cards.become(d2="healthy")
    assert node.run(kernel, VISIBLE)[0] == "d1\n"
    assert node.ask("explain_kernel", kernel).notes == (
        f"claim {kernel}.1.mock: plugin 'mock' does not report cuda.shares of d1; it stands",
    )
    assert node.ask("list_leaks") == []

    # When it is back, what the kernel holds of it is not given to anybody else.
    cards.are(d1="", d2="")
    cards.become(d1="healthy", d2="healthy")
    assert cards.free() == {"cuda.device": "1", "cuda.shares": "1.5"}
    node.destroy(kernel)
    assert cards.free() == {"cuda.device": "2", "cuda.shares": "2"}


def test_a_kernel_that_ends_while_its_device_is_out_gives_it_back(node, cards):
    cards.are(d1="")
    cards.start()
    kernel = node.create(slots={"mem": "32m", "cuda.device": "1"})
    cards.are(d2="")
    cards.become(d1="lost", d2="healthy")

    node.destroy(kernel)
    assert node.used() == {}
    cards.are(d1="", d2="")
    cards.become(d1="healthy", d2="healthy")
    assert cards.free() == {"cuda.device": "2", "cuda.shares": "2"}


def test_a_device_that_falls_ill_is_kept_by_its_kernel_and_given_to_nobody_else(node, cards):
    cards.are(d1="")
    cards.start()
    kernel = node.create(slots={"mem": "32m", "cuda.shares": "0.5"})

    cards.are(d1='health = "unhealthy"\nevidence = "XID 79"')
    cards.become(d1="unhealthy")
    (row,) = cards.rows()
    assert (row.evidence, row.withheld) == ("XID 79", "unhealthy: XID 79")
    assert node.run(kernel, VISIBLE)[0] == "d1\n"
    with pytest.raises(InsufficientResource):
        node.create(wait=False, slots={"mem": "32m", "cuda.shares": "0.5"})

    cards.are(d1="")
    cards.become(d1="healthy")
    other = node.create(slots={"mem": "32m", "cuda.shares": "0.5"})
    node.destroy(other)
    node.destroy(kernel)


def test_a_broken_edit_is_told_and_costs_nothing(node, cards):
    cards.are(d1="")
    cards.start()
    cards.are(d1="", more="[[devices]]\nmemory_size = '12 parsecs'\n")
    cards.become(d1="degraded")

    (row,) = cards.rows()
    assert "an edit has no effect" in row.evidence
    assert "cards.toml:9: devices[1]: " in row.evidence
    assert cards.free() == {"cuda.device": "1", "cuda.shares": "1"}


def test_a_script_pulls_a_device_and_its_link_out_of_a_running_node(node, cards):
    link = '[[links]]\ndevices = ["d1", "d2"]\nkind = "nv12"\n'
    cards.are(d1="", d2="", more=link)
    cards.start()
    assert [row.links for row in cards.rows()] == [{"d2": "nv12"}, {"d1": "nv12"}]

    cards.are(d1="", d2="", more=link + '[[script]]\nat = 0.5\nremove = "d2"\n')
    cards.become(d1="healthy", d2="lost")
    assert [row.links for row in cards.rows()] == [{}, {}]
    assert cards.free() == {"cuda.device": "1", "cuda.shares": "1"}
