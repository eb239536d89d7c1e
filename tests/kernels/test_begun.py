"""Beginning to wait: what is there at once is had at once, and everything else as it would be."""

from __future__ import annotations

import asyncio

import pytest

from agent_core.kernels.begun import Begun


async def at_once():
    return 1


def run(body):
    async def main():
        async with asyncio.timeout(20):
            return await body()

    return asyncio.run(main())


def test_what_does_not_wait_is_done_when_it_has_begun():
    async def body():
        begun = Begun(at_once())
        return begun.is_done, begun.result(), await begun

    assert run(body) == (True, 1, 1)


def test_what_waits_goes_on_from_there():
    async def body():
        gate = asyncio.get_running_loop().create_future()
        steps = []

        async def waiting():
            steps.append("before")
            steps.append(await gate)
            await asyncio.sleep(0)
            return "after"

        begun = Begun(waiting())
        assert (steps, begun.is_done) == (["before"], False)
        with pytest.raises(asyncio.InvalidStateError):
            begun.result()
        gate.set_result("then")
        return await begun, steps

    assert run(body) == ("after", ["before", "then"])


def test_what_it_raises_is_raised_at_once_or_where_it_is_awaited():
    async def body():
        async def failing(wait):
            if wait:
                await asyncio.sleep(0)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            Begun(failing(wait=False))
        later = Begun(failing(wait=True))
        with pytest.raises(ValueError, match="no"):
            await later
        return True

    assert run(body)


def test_a_deadline_cancels_what_it_waits_for():
    async def body():
        cleaned = []

        async def hanging():
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        begun = Begun(hanging())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await begun
        return cleaned

    assert run(body) == [True]


def test_a_timeout_inside_is_one_of_the_task_that_began_it():
    async def body():
        async def bounded():
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

        begun = Begun(bounded())
        with pytest.raises(TimeoutError):
            await begun
        return asyncio.current_task().cancelling()

    assert run(body) == 0
