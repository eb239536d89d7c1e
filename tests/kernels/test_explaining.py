"""What is told of a kernel whose decisions were not recorded, or whose devices are gone."""

from agent_core.kernels.explaining import explanation_of
from agent_core.ledger import HoldRow, KernelRow

CLAIM = {
    "id": "k.1.cpu",
    "kernel_id": "k",
    "incarnation": 1,
    "plugin": "cpu",
    "grants": [["cpu", "cpu0", "1"]],
}
ROW = KernelRow(
    kernel_id="k",
    session_id="k",
    state="RUNNING",
    spec={},
    spec_digest="",
    created_at=1.0,
    container="c",
)


def told(undo, gone=None):
    hold = HoldRow("claim", "k.1.cpu", "k", 1, undo=undo)
    return explanation_of(ROW, [hold], {"k.1.cpu": gone} if gone else {})


def test_a_claim_without_a_record_still_tells_its_grants():
    for why in ({}, {"why": [{"odd": 1}]}, {"why": None}):
        explanation = told({**CLAIM, **why})
        assert [g.device_id for g in explanation.grants] == ["cpu0"]
        assert explanation.notes == ("claim k.1.cpu: why it was given was not recorded",)


def test_a_claim_on_what_nobody_reports_is_told():
    notes = told(CLAIM, gone="plugin 'cpu' does not report cpu of cpu0").notes
    assert notes[-1] == "claim k.1.cpu: plugin 'cpu' does not report cpu of cpu0; it stands"


def test_a_kernel_that_asked_for_nothing_has_nothing_to_explain():
    assert explanation_of(ROW, [], {}).notes == ("it asked for no slot",)
