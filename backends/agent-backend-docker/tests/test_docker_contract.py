"""The Docker backend passes the conformance suite, against an engine of the tests' own."""

from __future__ import annotations

import pytest
from agent_backend_docker.backend import DockerBackend
from servers import need

from agent_core.testing import ContainerBackendContract

pytestmark = pytest.mark.requires("docker")


class TestDockerBackend(ContainerBackendContract):
    image = "busybox:latest"
    path = "/bin"

    @pytest.fixture
    def plugin(self):
        return DockerBackend

    @pytest.fixture
    def config(self, engine):
        return {"host": f"unix://{engine.socket}"}

    @pytest.fixture
    def absent_image(self, request):
        # The one check that goes to a registry must not keep the others from running without.
        need("registry")
        return f"{request.getfixturevalue('registry')().address}/no/such:1"

    @pytest.fixture
    def entry_module(self):
        return "agent_backend_docker.plugin"

    @pytest.fixture
    def bad_config(self):
        return {"seccomp-profile": "/no/such/profile.json"}

    def argv_signal(self, signal):
        # The first process of a container is deaf to signals from within.
        return (self.shell, "-c", f"sh -c 'kill -{signal} $$'; exit $?")

    def argv_daemons(self):
        # Busybox would become its last command, and be one process less.
        shell, option, script = super().argv_daemons()
        return (shell, option, f"{script}; true")
