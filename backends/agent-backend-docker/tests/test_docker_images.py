"""Images: of a real registry, with and without a password, slow, wrong, full and absent."""

from __future__ import annotations

import io
import os
import tarfile

import pytest
from agent_backend_docker.backend import DockerBackend
from servers.engine import BUSYBOX, busybox
from servers.registry import PASSWORD, USER

from agent_core.contracts.errors import (
    AgentError,
    ImageNotFound,
    InvalidArgument,
    PluginTimeout,
    PluginUnavailable,
    Unauthorized,
    WrongState,
)
from agent_core.testing.backend_bench import Setting

pytestmark = [pytest.mark.requires("docker"), pytest.mark.requires("registry")]


@pytest.fixture
def work(engine, tmp_path):
    """Run a check with a backend that is configured so."""

    def run(check, **options):
        config = {"host": f"unix://{engine.socket}", **options}
        setting = Setting(DockerBackend, config, tmp_path / "state", BUSYBOX, {"PATH": "/bin"})
        setting.run(lambda bench: check(bench.backend))

    return run


def tar_with(content):
    """An image with one file in it, and so with a layer that no other image has."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("content")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


async def pulled(backend, name):
    return [item async for item in backend.pull_image(name)]


def test_a_pull_tells_its_progress_by_layer_in_bytes(engine, registry, work):
    engine.import_image("once:1", tar_with(os.urandom(3 << 20)))
    name = registry().fill("tools/box:1", "once:1")
    engine.docker("rmi", "once:1")

    async def check(backend):
        items = await pulled(backend, name)
        sized = [item for item in items if item.get("total")]
        assert sized, items
        assert all(item["current"] <= item["total"] for item in sized)
        image = await backend.inspect_image(name)
        assert image.digest.startswith("sha256:")
        assert image.architecture == "amd64"
        by_digest = f"{name.rpartition(':')[0]}@{image.digest}"
        await backend.remove_image(name)
        with pytest.raises(ImageNotFound):
            await backend.inspect_image(name)
        await pulled(backend, by_digest)
        assert (await backend.inspect_image(by_digest)).digest == image.digest
        await backend.remove_image(by_digest)
        await backend.remove_image(by_digest)

    work(check)


def test_a_private_registry_wants_its_password_and_gets_it_from_the_configuration(
    engine, registry, work
):
    private = registry(private=True)
    name = private.fill("box:1", BUSYBOX)
    engine.docker("logout", private.address)

    async def refused(backend):
        with pytest.raises(Unauthorized) as denied:
            await pulled(backend, name)
        assert f"[plugin.docker.registries.'{private.address}']" in str(denied.value.hint)

    async def allowed(backend):
        await pulled(backend, name)
        await backend.inspect_image(name)
        items = [item async for item in backend.push_image(name)]
        assert items
        await backend.remove_image(name)

    work(refused)
    work(refused, registries={private.address: {"username": USER, "password": "wrong"}})
    work(allowed, registries={private.address: {"username": USER, "password": PASSWORD}})


def test_what_docker_login_has_kept_is_used(engine, registry, work, monkeypatch):
    private = registry(private=True)
    name = private.fill("box:1", BUSYBOX)
    monkeypatch.setenv("DOCKER_CONFIG", str(engine.root / "client"))

    async def check(backend):
        await pulled(backend, name)
        await backend.remove_image(name)

    work(check)


def test_an_image_that_no_registry_has_is_told(registry, work):
    address = registry().address

    async def check(backend):
        with pytest.raises(ImageNotFound, match="nothing:1"):
            await pulled(backend, f"{address}/nothing:1")

    work(check)


def test_a_registry_that_is_not_there_is_told_as_that(work):
    async def check(backend):
        with pytest.raises(PluginUnavailable) as away:
            await pulled(backend, "127.0.0.1:1/box:1")
        assert "127.0.0.1:1" in str(away.value.hint)

    work(check)


def test_a_registry_that_says_nothing_is_given_up(registry, work):
    silent = registry()
    name = silent.fill("box:1", BUSYBOX)
    silent.hang()

    async def check(backend):
        with pytest.raises(PluginTimeout) as late:
            await pulled(backend, name)
        assert "stall" in str(late.value.hint)

    work(check, stall=1)


@pytest.mark.parametrize(
    "name", ["", "UPPER", "a b", "-x", "a:b:c", "a@sha256:12", "../x", "a//b", "x" * 400, "a:\n"]
)
def test_a_name_that_is_none_is_refused_before_the_engine_is_asked(work, name):
    async def check(backend):
        for call in (backend.inspect_image, backend.remove_image):
            with pytest.raises(InvalidArgument):
                await call(name)
        with pytest.raises(InvalidArgument):
            await pulled(backend, name)

    work(check)


def test_an_image_in_use_is_not_removed(engine, work):
    engine.import_image("held:1", tar_with(b"held"))
    engine.docker("create", "--name", "holder", "held:1", "sh")

    async def check(backend):
        with pytest.raises(WrongState, match="in use"):
            await backend.remove_image("held:1")

    try:
        work(check)
    finally:
        engine.docker("rm", "holder")


def test_labels_and_environment_of_an_image_are_read(engine, work):
    engine.import_image(
        "labelled:1", busybox(), "LABEL ai.backend.service-ports=web:http:8080", "ENV A=b=c"
    )

    async def check(backend):
        image = await backend.inspect_image("labelled:1")
        assert image.labels["ai.backend.service-ports"] == "web:http:8080"
        assert image.env["A"] == "b=c"
        assert image in await backend.images()
        with pytest.raises(ImageNotFound, match="labelled:2") as missing:
            await backend.inspect_image("labelled:2")
        assert "labelled:1" in str(missing.value.hint)

    work(check)


def test_a_push_of_what_is_not_there_is_refused(work):
    async def check(backend):
        with pytest.raises(AgentError):
            [item async for item in backend.push_image("127.0.0.1:1/none:1")]

    work(check)
