"""Answers that several tests' services give."""

from agent_core.wire import models as m

KERNEL_PORT = m.KernelPortRow(
    kernel_id="k1",
    session_id="s1",
    name="web",
    protocol="http",
    container_port=8080,
    host="10.0.0.9",
    host_port=30001,
    address="10.0.0.9:30001",
    tls=True,
)
