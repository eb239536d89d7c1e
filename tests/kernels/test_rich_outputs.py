"""Media and HTML of a runner are checked, and pay for what they weigh."""

import pytest

from agent_core.contracts.errors import MalformedFrame
from agent_core.kernels.runner.messages import read_report
from agent_core.wire.models import OutputItem

MEDIA = {"type": "media", "seq": 1, "run_id": "r", "mime": "image/png", "data": "aé", "alt": "z"}
HTML = {"type": "html", "seq": 1, "run_id": "r", "text": "<b>"}


def test_they_cost_their_bytes_of_credit():
    media, html = read_report({**MEDIA, "more": True}), read_report({**HTML, "alt": ""})
    assert media.item == OutputItem(kind="media", mime="image/png", data="aé", alt="z", more=True)
    assert html.item == OutputItem(kind="html", text="<b>")
    assert (media.cost, html.cost) == (4, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mime": "nonsense"},
        {"mime": "image/png\nx"},
        {"mime": "a/" + "b" * 300},
        {"mime": None},
        {"data": 5},
        {"data": None},
        {"alt": []},
    ],
)
def test_media_that_say_something_else_break_the_protocol(wrong):
    with pytest.raises(MalformedFrame):
        read_report({**MEDIA, **wrong})


@pytest.mark.parametrize("wrong", [{"text": None}, {"text": ["<b>"]}, {"alt": 1}])
def test_html_that_says_something_else_breaks_the_protocol(wrong):
    with pytest.raises(MalformedFrame):
        read_report({**HTML, **wrong})
