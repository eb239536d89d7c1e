"""What `[debug]` lets the agent tell is told only where it was asked for, and without secrets."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

ASKED = {"log_kernel_config": True, "log_alloc_map": True, "log_backend_events": True}
WORDS = {"a container is made", "allocations", "event of the backend"}


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_for_is_told(live, asked):
    async def body(world):
        with capture_logs() as told:
            await world.create(env={"API_TOKEN": "hush", "PLAIN": "seen"})
            assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
            await world.kernels.destroy("k", "tired")
            await world.ended()
            await world.idle()
        return told

    told = live(body, **(ASKED if asked else {}))
    said = [item for item in told if item["event"] in WORDS]
    if not asked:
        assert said == []
        return
    (made,) = [item for item in said if item["event"] == "a container is made"]
    assert made["spec"]["image"] == "python"
    assert (made["spec"]["env"]["API_TOKEN"], made["spec"]["env"]["PLAIN"]) == ("***", "seen")
    maps = [item for item in said if item["event"] == "allocations"]
    assert maps[0]["after"] == "granting"
    assert maps[0]["used"] == {f"{p}/{p}-0": {f"{p}.unit": "1"} for p in ("aa", "bb", "cc")}
    assert maps[-1]["used"] == {}
