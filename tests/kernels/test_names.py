"""The names that we choose for things lead back to their kernels, and other names lead nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.kernels.assembly import container_name, kernel_of_claim, kernel_of_container

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(IDS, IDS, st.integers(1, 10**6))
def test_a_containers_name_leads_back_to_its_kernel(agent_id, kernel_id, incarnation):
    name = container_name(agent_id, kernel_id, incarnation)
    assert kernel_of_container(agent_id, name) == kernel_id


@given(IDS, IDS, st.integers(1, 10**6))
def test_a_claims_id_leads_back_to_its_kernel(plugin, kernel_id, incarnation):
    assert kernel_of_claim(f"{kernel_id}.{incarnation}.{plugin}", plugin) == kernel_id


@pytest.mark.parametrize("name", ["", "t", "t.k", "t.k.1.main", "t.k.x.main.0", "u.k.1.main.0"])
def test_other_names_of_containers_lead_nowhere(name):
    assert kernel_of_container("t", name) is None


@pytest.mark.parametrize("claim", ["", "aa", ".1.aa", "k.x.aa", "k.1.bb", "1.aa"])
def test_other_ids_of_claims_lead_nowhere(claim):
    assert kernel_of_claim(claim, "aa") is None
