"""The configuration of a simulated node, as it stands in the documents and as it may go wrong."""

from __future__ import annotations

import pytest
from agent_backend_dummy.backend import DummyBackend
from agent_backend_dummy.declaration import AGENT_DELAYS, CREATION_DELAYS, INFO, KERNEL_DELAYS
from agent_backend_dummy.settings import read_node, read_settings

from agent_core.contracts.errors import InvalidConfig
from agent_core.contracts.schema import section_fault

SECTIONS = {
    ("agent", "delay"): AGENT_DELAYS,
    ("kernel-creation-ctx", "delay"): CREATION_DELAYS,
    ("kernel", "delay"): KERNEL_DELAYS,
}
DELAYS = [(path, name) for path, names in SECTIONS.items() for name in names]


def nested(path, value):
    for part in reversed(path):
        value = {part: value}
    return value


def faults_of(config):
    assert section_fault("dummy", config, INFO.config_schema) is None
    with pytest.raises(InvalidConfig) as caught:
        DummyBackend().open(config)
    return caught.value.details["faults"]


@pytest.mark.parametrize(("path", "name"), DELAYS)
def test_each_delay_is_a_number_or_a_pair(path, name):
    assert read_settings(nested((*path, name), 0.5)).delays == {name: (0.5, 0.5)}
    assert read_settings(nested((*path, name), [1, 2.5])).delays == {name: (1.0, 2.5)}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (-1, "is negative"),
        ([0.1, -0.5], "is negative"),
        ([2, 1], "is reversed: write [1, 2]"),
        ("fast", "is no delay"),
        ([1], "is no delay"),
        ([1, 2, 3], "is no delay"),
        (True, "is no delay"),
        (1e9, "is longer than a day"),
        ({"a": 1}, "is no delay"),
    ],
)
def test_a_wrong_delay_is_named_with_its_key(value, what):
    [fault] = faults_of({"kernel": {"delay": {"commit": value}}})
    assert fault.startswith("[kernel.delay] commit: ")
    assert what in fault


def test_all_faults_are_named_at_once():
    config = {
        "agent": {
            "delay": {"scan-image": -1, "pull-image": [3, 2]},
            "image": {"missing": "one"},
            "intrinsic": {"cpu": {"core-indexes": [0, -1]}, "memory": {"size": "12 parsecs"}},
        }
    }
    places = [fault.partition(": ")[0] for fault in faults_of(config)]
    assert places == [
        "[agent.delay] scan-image",
        "[agent.delay] pull-image",
        "[agent.image] missing",
        "[agent.intrinsic.cpu] core-indexes",
        "[agent.intrinsic.memory] size",
    ]


def test_a_key_that_nobody_knows_is_refused_by_the_schema():
    config = {"agent": {"delay": {"scan-imge": 1}}}
    fault = section_fault("dummy", config, INFO.config_schema)
    assert fault is not None
    assert "scan-imge" in fault.message


@pytest.mark.parametrize(
    ("config", "node"),
    [
        ({}, ((0, 1, 2, 3), 32 << 30)),
        ({"agent": {"intrinsic": {"cpu": {"core-indexes": [3, 1]}}}}, ((1, 3), 32 << 30)),
        ({"agent": {"intrinsic": {"cpu": {"core-indexes": "0-2,8"}}}}, ((0, 1, 2, 8), 32 << 30)),
        ({"agent": {"intrinsic": {"memory": {"size": 50_000_000_000}}}}, (range(4), 50 * 10**9)),
        ({"agent": {"intrinsic": {"memory": {"size": "1G"}}}}, (range(4), 1 << 30)),
        ({"agent": {"resource": {"cpu": {"num-core": 2}}}}, ((0, 1), 32 << 30)),
        ({"agent": {"resource": {"memory": {"size": 34359738368}}}}, (range(4), 32 << 30)),
    ],
)
def test_the_node_is_what_either_layout_says(config, node):
    cores, memory = read_node(config)
    assert (cores, memory) == (tuple(node[0]), node[1])
    assert DummyBackend.stand_ins(config) == {
        "cpu": {"cores": list(node[0])},
        "mem": {"size": node[1]},
    }


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"intrinsic": {"cpu": {"core-indexes": []}}}, "core-indexes"),
        ({"intrinsic": {"cpu": {"core-indexes": "0-"}}}, "core-indexes"),
        ({"intrinsic": {"cpu": {"core-indexes": "a-b"}}}, "core-indexes"),
        ({"resource": {"cpu": {"num-core": 0}}}, "num-core"),
        ({"resource": {"cpu": {"num-core": "four"}}}, "num-core"),
        ({"resource": {"memory": {"size": 0}}}, "size"),
        ({"resource": {"memory": {"size": 1.5}}}, "size"),
        (
            {"intrinsic": {"cpu": {"core-indexes": [0]}}, "resource": {"cpu": {"num-core": 2}}},
            "keep one of the two",
        ),
        (
            {"intrinsic": {"memory": {"size": 1}}, "resource": {"memory": {"size": 2}}},
            "keep one of the two",
        ),
    ],
)
def test_a_node_that_cannot_be_is_refused(config, key):
    with pytest.raises(InvalidConfig, match=key):
        read_node({"agent": config})
