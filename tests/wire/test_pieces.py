"""Media and HTML that come in pieces are put together again, within bounds."""

from agent_core.client.pieces import BOUND, Pieces
from agent_core.wire.models import OutputItem


def media(data, **fields):
    return OutputItem(kind="media", **{"mime": "image/png", "data": data, **fields})


def whole(*items):
    pieces = Pieces()
    return [out for item in items for out in pieces.add(item)] + list(pieces.cut_short())


def test_pieces_become_one_item_with_what_the_first_said():
    text = OutputItem(kind="output", stream="stdout", text="x")
    html = OutputItem(kind="html", text="<b>", more=True)
    items = [media("a", alt="one", more=True), media("b", more=True), media("c"), text, html]
    assert whole(*items, OutputItem(kind="html", text="</b>")) == [
        media("abc", alt="one"),
        text,
        OutputItem(kind="html", text="<b></b>"),
    ]


def test_what_has_no_end_or_is_too_long_counts_as_truncated():
    other = media("z", mime="image/gif")
    cut = OutputItem(kind="truncated", bytes=2)
    assert whole(media("ab", more=True), other) == [cut, other]
    assert whole(media("ab", more=True)) == [cut]
    piece = media("x" * (BOUND // 2), more=True)
    found = whole(piece, piece, media("yy"), media("next"))
    assert found == [OutputItem(kind="truncated", bytes=BOUND + 2), media("next")]
