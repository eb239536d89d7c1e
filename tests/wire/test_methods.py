"""The table of methods is complete and consistent."""

import pytest
from pydantic import ValidationError

from agent_core.contracts.errors import UnknownMethod
from agent_core.wire import methods
from agent_core.wire import models as m
from agent_core.wire.methods import METHODS, find
from agent_core.wire.roles import Role


def test_the_table_has_every_method_under_its_own_name():
    assert list(METHODS) == [
        "ping",
        "get_status",
        "list_plugins",
        "get_plugin",
        "reset_plugin",
        "list_devices",
        "list_slots",
        "list_images",
        "pull_image",
        "push_image",
        "purge_image",
        "create_kernel",
        "plan_kernel",
        "explain_kernel",
        "list_kernels",
        "list_ports",
        "get_kernel_status",
        "destroy_kernel",
        "restart_kernel",
        "wait_kernel",
        "create_session",
        "list_sessions",
        "destroy_session",
        "get_logs",
        "watch_events",
        "execute_code",
        "send_input",
        "interrupt_kernel",
        "complete_code",
        "list_runs",
        "list_services",
        "start_service",
        "shutdown_service",
        "upload_file",
        "download_file",
        "list_files",
        "commit_kernel",
        "get_commit_status",
        "list_commands",
        "call_backend",
        "list_leaks",
        "show_ledger",
        "backup_ledger",
        "fix_leaks",
        "reconcile",
        "plan_reconcile",
        "get_config",
        "reload_config",
    ]
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_has_models_and_a_summary(method):
    assert method.summary.endswith(".")
    for model in (method.params, method.result, method.item):
        assert model is None or issubclass(model, m.Model)
    assert not (method.many and method.item)


def test_whoever_changes_something_needs_more_than_the_role_of_a_reader():
    changing = (
        *("create_", "destroy_", "restart_", "execute_", "send_", "interrupt_", "pull_", "push_"),
        *("purge_", "start_", "shutdown_", "upload_", "commit_", "call_"),
    )

    for name, method in METHODS.items():
        if name.startswith(changing):
            assert method.role >= Role.OPERATE
        if method.goes_on:
            assert method.role >= Role.OPERATE


def test_an_unknown_method_is_met_with_a_suggestion():
    with pytest.raises(UnknownMethod) as caught:
        find("create_kernle")

    assert caught.value.hint == "Did you mean create_kernel?"
    assert caught.value.details == {"method": "create_kernle"}


def test_a_method_unlike_any_other_is_met_with_the_general_hint():
    with pytest.raises(UnknownMethod) as caught:
        find("qqq")

    assert caught.value.hint == UnknownMethod.hint


def test_results_survive_rendering():
    pong = m.Pong(text="hello")
    rows = [m.Leak(kind="port", key="1", kernel_id=None, state="held", detail="")]

    assert methods.PING.read(methods.PING.render(pong)) == pong
    assert methods.LIST_LEAKS.read(methods.LIST_LEAKS.render(rows)) == rows


def test_fields_that_a_newer_agent_has_added_are_passed_over():
    pong = {"text": "hello", "mood": "good"}
    newer = {"kind": "port", "key": "1", "kernel_id": None, "state": "held", "detail": "", "x": 1}
    detail = {**newer, "plugin": "p", "slot": "s", "device_id": "d", "amount": "1"}

    assert methods.PING.read(pong) == m.Pong(text="hello")
    assert methods.LIST_LEAKS.read([newer])[0].key == "1"
    assert m.KernelDetail.model_validate(
        {
            "kernel_id": "k",
            "session_id": "s",
            "state": "RUNNING",
            "image": "i",
            "reason": None,
            "exit_code": None,
            "created_at": 1.0,
            "grants": [detail],
            "novelty": {},
        }
    ).grants == [m.GrantRow(plugin="p", slot="s", device_id="d", amount="1")]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_parameters_are_closed_and_answers_are_open(method):
    assert method.params.model_config["extra"] == "forbid"
    for model in (method.result, method.item):
        assert model is None or model.model_config["extra"] == "ignore"


def test_a_result_of_another_shape_is_refused():
    with pytest.raises(ValidationError):
        methods.LIST_LEAKS.read({"kind": "port"})
