"""A node whose kernels are containers of an engine of the tests' own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from servers.engine import BUSYBOX

DEADLINE = 30


class DockerNode:
    """A node whose kernels are containers of an engine of the tests' own.

    Args:
        nodes: The fixture that makes nodes.
        engine: The engine, in whose network the agent runs.
        bundles: A directory of the runner's bundles, made before.
        agent: The agent's id.
        host: The socket that the agent is told of; the engine's own by default.
        options: The backend's further options.
    """

    def __init__(self, nodes, engine, bundles: Path, agent: str, host=None, **options) -> None:
        self.engine = engine
        self.node = nodes(backend="docker", inside=engine.inside, agent=agent)
        lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        socket = f'host = "unix://{host or engine.socket}"'
        self.node.configure("\n".join(["[plugin.docker]", socket, *lines, ""]))
        # Made once for all nodes: making it takes seconds.
        shutil.copytree(bundles, self.node.state / "runner", copy_function=os.link)

    def __getattr__(self, name):
        return getattr(self.node, name)

    def create(self, **spec) -> str:
        """Create a kernel of the busybox image."""
        return self.node.create(**{"image": BUSYBOX, **spec})

    def container(self, kernel_id: str) -> str:
        """The name of a kernel's container."""
        (name,) = (name for name in self.engine.names() if f".{kernel_id}." in name)
        return name

    def process(self, kernel_id: str) -> str:
        """What tells a kernel's first process from every other one."""
        wanted = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}"
        return self.engine.docker("inspect", "--format", wanted, self.container(kernel_id))

    def ended(self, kernel_id: str):
        """Wait until a kernel has ended."""
        return self.ask("wait_kernel", kernel_id, ["TERMINATED"], timeout=DEADLINE)

    def containers(self) -> list[str]:
        """The names of this agent's containers."""
        return sorted(name for name in self.engine.names() if name.startswith(f"{self.agent}."))

    def networks(self) -> list[str]:
        """The names of this agent's networks."""
        networks = self.engine.docker("network", "ls", "--format", "{{.Name}}").split()
        return sorted(name for name in networks if name.startswith(f"{self.agent}."))

    def nothing_is_left(self) -> None:
        """Assert that neither the node nor the engine has anything of a kernel."""
        self.node.clean()
        assert self.containers() == []
        assert self.networks() == []
