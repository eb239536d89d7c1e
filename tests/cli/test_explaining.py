"""A dry run and an explanation are a tree for people and an object for machines."""

import json

from agent_core.wire import decisions as d

CREATE = ("kernels", "create", "--image", "python", "--dry-run", "--slot")


def test_a_dry_run_shows_what_would_be_given_and_creates_nothing(agent, agentctl):
    done = agentctl(*CREATE, "cpu=1", "-f", agent.config)
    assert done.code == 0
    assert done.out.splitlines() == [
        "would be created with",
        "└─ cpu=1 of plugin cpu: given; 3 was free",
        "   ├─ 1 of cpu0 (NUMA 0): the smallest",
        "   ├─ passed over cpu1 (NUMA 1), cpu2 (NUMA 0): 1 free",
        "   └─ 2 more devices were looked at",
    ]
    assert agent.services.specs == []


def test_a_dry_run_that_would_be_refused_says_what_would_make_it_fit(agent, agentctl):
    done = agentctl(*CREATE, "cpu=4", "-f", agent.config)
    assert done.code == 1
    assert done.out.splitlines()[0] == "would be refused"
    assert done.out.splitlines()[-1] == "   └─ it would fit: free 1 more cpu"


def test_a_dry_run_is_an_object_as_json(agent, agentctl):
    done = agentctl(*CREATE, "cpu=4", "--json", "-f", agent.config)
    assert done.code == 1
    plan = d.Plan.model_validate(json.loads(done.out))
    assert not plan.granted
    assert plan.slots[0].remedies[0].kernels == ("k1",)


def test_a_kernel_is_explained_as_a_tree_and_as_an_object(agent, agentctl):
    tree = agentctl("explain", "k1", "-f", agent.config).out.splitlines()
    assert tree[0] == "kernel k1: RUNNING"
    assert tree[-1] == "└─ claim k1.1.x: it stands"
    told = d.Explanation.model_validate(
        json.loads(agentctl("explain", "k1", "--json", "-f", agent.config).out)
    )
    assert told.slots[0].candidates[0].device_id == "cpu0"
