"""As whom kernels run: the agent's own user, or another one that it may become."""

from __future__ import annotations

import os

import pytest

from agent_core.contracts.errors import InvalidConfig
from agent_core.kernels.user import OWN, User


def test_minus_one_is_the_agents_own():
    assert User.of(-1, -1) == OWN == User(os.geteuid(), os.getegid())
    assert not OWN.is_another
    assert str(User.of(1234, -1)) == f"1234:{os.getegid()}"


def test_an_agent_that_is_not_root_runs_kernels_as_nobody_else(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidConfig, match="kernels cannot run as 1234:") as refused:
        User.of(1234, 1).check()
    assert "kernel-uid" in str(refused.value.hint)
    assert User.of(-1, -1).check() is None


def test_root_may_run_kernels_as_anybody(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert User.of(1234, 1).check() is None


def test_what_belongs_to_the_agent_itself_is_not_given_away(tmp_path):
    before = tmp_path.stat()
    OWN.own(tmp_path)
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (before.st_uid, before.st_gid)
