"""Pulls that are shared, and uploads in pieces: bounded, in order, ended with their cause."""

from __future__ import annotations

import asyncio

import pytest

from agent_core.contracts.errors import (
    Busy,
    DeadlineExceeded,
    ImageNotFound,
    InvalidArgument,
    PluginContractBroken,
    PluginError,
    PluginTimeout,
)
from agent_core.kernels import uploading
from agent_core.kernels.pulling import Pulls
from agent_core.kernels.uploading import Uploads
from agent_core.wire.content import UploadFile

from .fakes import FakeBackend, Script

DEADLINE = 20


def run(body):
    async def main():
        async with asyncio.timeout(DEADLINE):
            return await body()

    return asyncio.run(main())


class Registry(FakeBackend):
    """Tells of as many layers as a test wants, and waits at a gate before the last."""

    def __init__(self, *items, error=None):
        super().__init__(Script())
        self.items, self.error = items, error
        self.gate = asyncio.Event()
        self.begun = 0

    async def pull_image(self, name):
        self.begun += 1
        for item in self.items[:-1]:
            yield item
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        for item in self.items[-1:]:
            yield item


LAYERS = ({"layer": "a", "current": 1, "total": 2}, {"layer": "a", "current": 2, "total": 2})


def pulls_of(registry, timeout=DEADLINE):
    return Pulls(registry, lambda: timeout)


async def told(pulls, name="image"):
    return [item.current async for item in pulls.pull(name)]


def test_one_pull_serves_all_who_want_the_image():
    async def body():
        registry = Registry(*LAYERS)
        pulls = pulls_of(registry)
        both = [asyncio.ensure_future(told(pulls)) for _ in range(2)]
        await asyncio.sleep(0)
        registry.gate.set()
        seen = await asyncio.gather(*both)
        return registry.begun, [each[-1] for each in seen]

    assert run(body) == (1, [2, 2])


def test_a_pull_goes_on_when_nobody_watches_any_more():
    async def body():
        registry = Registry(*LAYERS)
        pulls = pulls_of(registry)
        items = pulls.pull("image")
        assert (await anext(items)).current == 1
        await items.aclose()
        registry.gate.set()
        last = await told(pulls)
        await pulls.close()
        return registry.begun, last[-1]

    assert run(body) == (1, 2)


@pytest.mark.parametrize(
    ("items", "error", "kind"),
    [
        (LAYERS, ImageNotFound("nobody has it"), ImageNotFound),
        (LAYERS, OSError("no space"), PluginError),
        (({"current": "many"}, {}), None, PluginContractBroken),
    ],
)
def test_everybody_is_told_why_it_failed_and_it_can_be_tried_again(items, error, kind):
    async def body():
        registry = Registry(*items, error=error)
        pulls = pulls_of(registry)
        registry.gate.set()
        for _ in range(2):
            with pytest.raises(kind):
                await told(pulls)
        return registry.begun

    assert run(body) == 2


# ---- uploads ----


def piece(data, offset=0, *, last=False, upload="u"):
    return UploadFile(
        kernel_id="k", upload_id=upload, path="/", offset=offset, data=data, last=last
    )


class Unpacker:
    def __init__(self, error=None, *, reads=True):
        self.got, self.error, self.reads = b"", error, reads
        self.gate = asyncio.Event()

    async def __call__(self, tar):
        if not self.reads:
            await self.gate.wait()
        async for chunk in tar:
            self.got += chunk
            if self.error is not None:
                raise self.error


def test_pieces_arrive_in_order_and_the_last_one_is_answered_when_all_is_unpacked():
    async def body():
        uploads, unpack = Uploads(), Unpacker()
        first = await uploads.take("k", piece(b"ab"), unpack)
        second = await uploads.take("k", piece(b"cd", 2), unpack)
        last = await uploads.take("k", piece(b"", 4, last=True), unpack)
        return [(s.taken, s.done) for s in (first, second, last)], unpack.got

    assert run(body) == ([(2, False), (4, False), (4, True)], b"abcd")


def test_a_piece_that_does_not_follow_is_refused():
    async def body():
        uploads, unpack = Uploads(), Unpacker()
        with pytest.raises(InvalidArgument, match="no upload"):
            await uploads.take("k", piece(b"x", 5), unpack)
        await uploads.take("k", piece(b"ab"), unpack)
        with pytest.raises(InvalidArgument, match="does not follow"):
            await uploads.take("k", piece(b"cd", 7), unpack)
        await uploads.close()
        with pytest.raises(InvalidArgument, match="no upload"):
            await uploads.take("k", piece(b"cd", 2), unpack)

    run(body)


def test_what_fails_in_the_middle_is_told_to_the_next_piece():
    async def body():
        uploads, unpack = Uploads(), Unpacker(InvalidArgument("leads out"))

        async def send():
            await uploads.take("k", piece(b"ab"), unpack)
            await asyncio.sleep(0)
            await uploads.take("k", piece(b"cd", 2), unpack)

        with pytest.raises(InvalidArgument, match="leads out"):
            await send()

    run(body)


def test_memory_is_bounded_where_nobody_unpacks():
    async def body():
        uploads, unpack = Uploads(), Unpacker(reads=False)
        taken = []

        async def fill():
            while True:
                state = await uploads.take("k", piece(b"x" * 10, 10 * len(taken)), unpack)
                taken.append(state.taken)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fill(), 0.05)
        await uploads.close()
        return taken[-1]

    assert run(body) == 10 * uploading.PIECES


def test_an_upload_that_rests_is_given_up(monkeypatch):
    monkeypatch.setattr(uploading, "IDLE", 0.01)

    async def body():
        uploads, unpack = Uploads(), Unpacker()
        await uploads.take("k", piece(b"ab"), unpack)
        while uploads._uploads:
            await asyncio.wait({u.task for u in uploads._uploads.values()})
            await asyncio.sleep(0)
        with pytest.raises((InvalidArgument, DeadlineExceeded)):
            await uploads.take("k", piece(b"cd", 2), unpack)

    run(body)


def test_a_backend_that_unpacks_for_ever_holds_nobody_for_ever(monkeypatch):
    monkeypatch.setattr(uploading, "IDLE", 0.02)

    async def body():
        uploads, unpack = Uploads(), Unpacker(reads=False)
        with pytest.raises(DeadlineExceeded, match="did not go on"):
            await uploads.take("k", piece(b"ab", last=True), unpack)
        return uploads._uploads

    assert run(body) == {}


def test_only_so_many_uploads_at_a_time(monkeypatch):
    monkeypatch.setattr(uploading, "AT_ONCE", 1)

    async def body():
        uploads, unpack = Uploads(), Unpacker()
        await uploads.take("k", piece(b"ab"), unpack)
        with pytest.raises(Busy, match="under way"):
            await uploads.take("k", piece(b"ab", upload="v"), unpack)
        await uploads.close()

    run(body)


def test_a_pull_that_takes_too_long_is_given_up():
    async def body():
        pulls = pulls_of(Registry(*LAYERS), 0.01)
        with pytest.raises(PluginTimeout):
            await told(pulls)

    run(body)
