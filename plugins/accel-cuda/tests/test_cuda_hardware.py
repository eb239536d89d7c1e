"""cuda on a real card, in a process of its own, since the other tests load a stand-in."""

import json
import subprocess
import sys

import pytest

LOOK = """
import json
from accel_cuda.plugin import CudaDevice
from agent_core.contracts.device import Grant
from agent_core.contracts.inventory import check_inventory
plugin = CudaDevice()
plugin.open({})
devices = check_inventory("cuda", plugin.info, plugin.devices())
print(json.dumps({
    "devices": [[d.id, d.health, d.model, d.physical_key] for d in devices],
    "metrics": sorted({r.metric for r in plugin.measure(())}),
    "env": [dict(plugin.describe([Grant("cuda.device", d.id, o.quantum)]).env)
            for d in devices for o in d.offers],
}))
plugin.close()
"""


@pytest.mark.requires("nvidia")
def test_a_real_card_is_listed_measured_and_described():
    found = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=50, check=True
    )

    seen = json.loads(found.stdout)

    assert seen["devices"]
    assert all(identity.startswith(("GPU-", "MIG-")) for identity, *_ in seen["devices"])
    assert "cuda_mem" in seen["metrics"]
    assert all(env["CUDA_VISIBLE_DEVICES"].startswith(("GPU-", "MIG-")) for env in seen["env"])
