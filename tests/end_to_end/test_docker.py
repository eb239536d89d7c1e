"""Kernels on a real Docker engine: their life, their code, their files, and what goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from certificates import make_certificate
from servers.engine import BUSYBOX, busybox

from agent_core.contracts.errors import DeadlineExceeded

from .docker_node import DEADLINE

pytestmark = [pytest.mark.requires("docker"), pytest.mark.timeout(180)]


def test_a_kernel_lives_in_a_container_and_leaves_nothing(docker):
    node = docker()
    node.start()
    kernel = node.create(slots={"cpu": "1", "mem": "64m", "cuda.shares": "0.5"})
    stdout, _, end = node.run(kernel, "pwd; id -u; ls /home/config; echo $CUDA_VISIBLE_DEVICES")
    assert end.status == "finished"
    assert stdout.startswith("/home/work\n0\ncluster.json\n")
    node.run(kernel, "export X=kept; cd /tmp")
    assert node.run(kernel, "echo $X in $PWD")[0] == "kept in /tmp\n"
    batch, _, end = node.run(kernel, "exit 7", mode="batch")
    assert (batch, end.exit_code) == ("", 7)
    row = node.ask("get_kernel_status", kernel)
    assert {step.step for step in row.timings} >= {"container", "start", "verify", "runner"}
    node.destroy(kernel)
    node.nothing_is_left()


def test_values_of_the_environment_arrive_without_loss(docker):
    node = docker()
    node.start()
    env = {"A": "two\nlines", "B": "", "C": "ä=ö", "LD_PRELOAD": "/nowhere.so", "PYTHONHOME": "/x"}
    kernel = node.create(env=env)
    script = 'printf "%s|" "$A" "$B" "$C" "$PYTHONHOME"; tr "\\0" "\\n" </proc/self/environ'
    stdout = node.run(kernel, script)[0]
    assert stdout.startswith("two\nlines||ä=ö|/x|")
    assert "LD_PRELOAD=/nowhere.so" in stdout
    node.destroy(kernel)


def test_a_python_image_without_python_is_run_by_the_runners_own(docker, engine):
    label = "LABEL ai.backend.runtime-type=python ai.backend.runtime-path=/usr/bin/python3"
    engine.import_image("nopython:1", busybox(), label)
    node = docker()
    node.start()
    kernel = node.create(image="nopython:1")
    stdout, stderr, end = node.run(kernel, "import json, ssl; x = 6; print(x * 7)")
    assert (stdout, end.status) == ("42\n", "finished")
    assert "there is no /usr/bin/python3" in stderr
    assert node.run(kernel, "print(x)")[0] == "6\n"
    node.destroy(kernel)


def test_an_image_without_anything_says_what_it_lacks(docker, engine):
    engine.import_image("nothing:1", bytes(10240))  # a tar archive of nothing
    node = docker()
    node.start()
    kernel = node.create(image="nothing:1")
    _, stderr, end = node.run(kernel, "echo x")
    assert "cannot start /bin/sh" in stderr
    assert end.exit_code == 127
    node.destroy(kernel)


def test_an_agent_that_is_killed_loses_no_output(docker):
    node = docker()
    node.start()
    kernel = node.create()

    async def talk(agent):
        run = agent.execute_code(kernel, "echo one; sleep 3; echo two", run_id="r1")
        async for item in run:
            if getattr(item, "text", "") == "one\n":
                return

    node.talk(talk)
    began = ("inspect", "--format", "{{.State.StartedAt}}", node.container(kernel))
    before = node.engine.docker(*began)
    node.end(signal.SIGKILL)
    node.start()
    row = node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE)
    assert row.incarnation == 1
    assert node.engine.docker(*began) == before
    assert node.run(kernel, "echo here")[0] == "here\n"
    node.destroy(kernel)


def test_fifty_containers_are_found_again_untouched(docker):
    node = docker()
    node.start()
    kernels = [f"many-{number}" for number in range(50)]

    async def create(agent):
        for kernel in kernels:
            spec = {"image": BUSYBOX, "slots": {"mem": "16m"}, "kernel_id": kernel}
            await agent.create_kernel(spec)
        for kernel in kernels:
            row = await agent.wait_kernel(kernel, ["RUNNING"], timeout=120)
            assert row.state == "RUNNING", row

    node.talk(create)
    pids = {name: _pid(node.engine, node.container(name)) for name in kernels}
    node.end(signal.SIGKILL)
    node.start()
    assert {row.state for row in node.ask("list_kernels")} == {"RUNNING"}
    assert {name: _pid(node.engine, node.container(name)) for name in kernels} == pids

    async def destroy(agent):
        await asyncio.gather(*map(agent.destroy_kernel, kernels))
        for kernel in kernels:
            await agent.wait_kernel(kernel, ["TERMINATED"], timeout=120)

    node.talk(destroy)
    node.nothing_is_left()


def _pid(engine, name):
    return engine.docker("inspect", "--format", "{{.State.Pid}}", name)


# ---- services -----------------------------------------------------------------------------------


@pytest.mark.parametrize("secured", [False, True])
def test_a_service_is_started_in_a_container_and_reached_at_a_port_of_the_node(
    docker, engine, secured
):
    node = docker()
    if secured:
        make_certificate(node.root, stem="tls")
        _add(node, "container", 'service-tls-cert = "tls.crt"\nservice-tls-key = "tls.key"')
    node.start()
    kernel = node.create(ports="page:http:8080", env={"BACKENDAI_SERVICE_DEFS": "/home/work"})
    words = '["httpd", "-f", "-p", "{host}:{ports[0]}", "-h", "{home}"]'
    node.run(kernel, f"echo '{{\"command\": {words}}}' > page.json; echo hello > index.html")
    row = node.ask("start_service", kernel, "page")
    assert (row.running, row.ports) == (True, [8080])
    (port,) = node.json("kernels", "ports", kernel)
    assert port["tls"] is secured
    if secured:
        certificate = str(node.root / "tls.crt")
        fetch = _FETCH.format(certificate=certificate, port=port["host_port"])
        command = [sys.executable, "-c", fetch]
    else:
        command = ["busybox", "wget", "-qO-", f"http://{port['address']}/"]
    assert engine.run_inside(*command).stdout == b"hello\n"
    node.ask("shutdown_service", kernel, "page")
    assert engine.run_inside(*command).returncode == 1
    node.destroy(kernel)
    node.nothing_is_left()


_FETCH = """
import ssl, urllib.request
context = ssl.create_default_context(cafile={certificate!r})
address = "https://localhost:{port}/"
print(urllib.request.urlopen(address, context=context, timeout=10).read().decode(), end="")
"""


def _add(node, section, text):
    configuration = node.config.read_text()
    node.config.write_text(configuration.replace(f"[{section}]", f"[{section}]\n{text}"))


# ---- ends that nobody asked for ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"), [(("rm", "--force"), 137), (("kill",), 137), (("stop", "-t", "5"), 0)]
)
def test_what_is_done_to_a_container_by_hand_ends_its_kernel_once(docker, command, code):
    node = docker()
    node.start()
    kernel = node.create()
    node.engine.docker(*command, node.container(kernel))
    row = node.ended(kernel)
    assert (row.reason, row.exit_code) == ("self-terminated", code)
    told = [event for event in node.events(kernel) if event.name == "kernel.terminated"]
    assert len(told) == 1
    node.nothing_is_left()


def test_what_ended_while_no_agent_was_there_is_told_by_the_next(docker):
    node = docker()
    node.start()
    killed, removed = node.create(), node.create()
    node.end(signal.SIGKILL)
    node.engine.docker("kill", node.container(killed))
    node.engine.docker("rm", "--force", node.container(removed))
    node.start()
    row = node.ended(killed)
    assert (row.reason, row.exit_code) == ("self-terminated", 137)
    assert node.ended(removed).reason == "container-not-found"
    node.nothing_is_left()


def test_code_cannot_kill_its_runner_and_a_kernel_deaf_to_its_end_is_killed(docker):
    node = docker()
    node.start()
    kernel = node.create()
    node.run(kernel, "kill -9 1; kill -9 -1")
    assert node.run(kernel, "echo alive")[0] == "alive\n"
    began = time.monotonic()
    node.run(kernel, "trap '' TERM; (while :; do sleep 1; done) >/dev/null 2>&1 &")
    node.destroy(kernel)
    assert time.monotonic() - began < DEADLINE
    node.nothing_is_left()


# ---- engines that go away ----------------------------------------------------------------------


@pytest.mark.parametrize("live_restore", [True, False])
def test_an_engine_that_restarts_ends_kernels_only_where_it_must(docker, own_engine, live_restore):
    engine = own_engine(**{"live-restore": live_restore})
    node = docker(on=engine)
    node.start()
    kernel = node.create()
    engine.stop_dockerd()
    if live_restore:
        assert node.ask("get_kernel_status", kernel).state == "RUNNING"
    engine.start_dockerd()
    if live_restore:
        assert node.run(kernel, "echo alive")[0] == "alive\n"
        node.destroy(kernel)
    else:
        assert node.ended(kernel).reason == "self-terminated"
    node.nothing_is_left()


def test_an_engine_that_hangs_ends_nothing_and_keeps_nobody_from_being_answered(docker, own_engine):
    engine = own_engine()
    node = docker(on=engine, deadline=1.0)
    node.start()
    kernel = node.create()
    engine.hang()
    try:
        began = time.monotonic()
        created = node.ask("create_kernel", {"image": BUSYBOX, "slots": {"mem": "1m"}})
        assert node.ask("get_kernel_status", kernel).state == "RUNNING"
        assert time.monotonic() - began < 5
        row = node.ended(created.kernel_id)
        assert row.reason == "failed-to-create"
        said = node.ask("get_kernel_status", created.kernel_id).message
        assert "has not answered" in said
        assert node.run(kernel, "echo alive")[0] == "alive\n"
    finally:
        engine.go_on()
    node.destroy(kernel)
    node.nothing_is_left()


def test_a_hung_engine_keeps_what_it_may_still_have_until_it_says_otherwise(docker, own_engine):
    engine = own_engine()
    node = docker(on=engine, deadline=1.0)
    node.start()
    kernel = node.create(slots={"cpu": "1", "mem": "64m"})
    engine.hang()
    try:
        node.ask("destroy_kernel", kernel)
        with pytest.raises(DeadlineExceeded):
            node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=4)
        assert node.ask("get_kernel_status", kernel).state == "TERMINATING"
        assert node.used()["mem"] != "0"
    finally:
        engine.go_on()
    assert node.ended(kernel).reason == "user-requested"
    node.nothing_is_left()


# ---- others ------------------------------------------------------------------------------------


def test_the_container_of_another_agent_is_never_touched(docker, engine):
    one, other = docker("one"), docker("other")
    one.start()
    other.start()
    mine, theirs = one.create(), other.create()
    assert one.ask("list_leaks") == []
    one.destroy(mine)
    assert other.run(theirs, "echo alive")[0] == "alive\n"
    assert one.ask("list_leaks") == []
    other.destroy(theirs)


def test_a_container_that_no_ledger_knows_is_reported_and_left_alone(docker, engine):
    node = docker()
    node.start()
    name = "d.stray.1.main.0"
    engine.docker(
        "run", "--detach", "--name", name, "--label", "ai.backend.owner=d", BUSYBOX, "sleep", "600"
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not (leaks := node.ask("list_leaks")):
            assert time.monotonic() < deadline
            time.sleep(0.2)  # it is found by a regular look
        assert name in str(leaks)
        assert name in engine.names()
    finally:
        engine.docker("rm", "--force", name)


# ---- what a kernel is given --------------------------------------------------------------------


def test_services_are_reached_on_the_ports_of_the_node(docker, engine):
    engine.import_image("web:1", busybox(), "LABEL ai.backend.service-ports=web:http:8080")
    node = docker()
    node.start()
    kernel = node.create(image="web:1")
    node.run(kernel, "echo hello > index.html; httpd -p 8080 -h .")
    (port,) = node.ask("get_kernel_status", kernel).ports
    url = f"http://127.0.0.1:{port.host_port}/index.html"
    ask = ("python3", "-c", f"import urllib.request as u; print(u.urlopen('{url}').read())")
    done = engine.run_inside(*ask)
    assert b"hello" in done.stdout, done.stderr
    node.destroy(kernel)
    assert engine.run_inside(*ask).returncode != 0


def test_the_kernels_of_a_session_reach_each_other_by_name(docker):
    node = docker()
    node.start()
    spec = {"image": BUSYBOX, "slots": {"mem": "16m"}}
    session = node.ask("create_session", [spec, spec])
    kernels = [each.kernel_id for each in session.kernels]
    for kernel in kernels:
        node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE)
    main, sub = kernels
    node.run(main, "(echo from-main | nc -l -p 9000 >/dev/null &) ; sleep 0.3")
    assert node.run(sub, "nc main1 9000 </dev/null; hostname")[0] == "from-main\nsub1\n"
    node.ask("destroy_session", session.session_id)
    for kernel in kernels:
        node.ended(kernel)
    node.nothing_is_left()


def test_a_session_on_an_overlay_of_a_swarm_and_without_one_it_is_refused_in_words(
    docker, own_engine
):
    mine = own_engine()
    node = docker(on=mine, **{"swarm-enabled": True})
    node.start()
    spec = {"image": BUSYBOX, "slots": {"mem": "16m"}}
    refused = [each.kernel_id for each in node.ask("create_session", [spec, spec]).kernels]
    for kernel in refused:
        node.ended(kernel)
    said = [str(node.ask("get_kernel_status", kernel).message) for kernel in refused]
    assert any("this engine is in no swarm (Run `docker swarm init`" in each for each in said)
    mine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    session = node.ask("create_session", [spec, spec])
    main, sub = (each.kernel_id for each in session.kernels)
    for kernel in (main, sub):
        row = node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE)
        assert row.state == "RUNNING", row
    overlays = ("network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}")
    [_, made] = sorted(mine.docker(*overlays).split(), key=lambda name: name != "ingress")
    assert made.startswith(f"d-{session.session_id}-")
    assert node.run(sub, "nslookup main1 >/dev/null && hostname")[0] == "sub1\n"
    node.ask("destroy_session", session.session_id)
    for kernel in (main, sub):
        node.ended(kernel)
    assert mine.docker(*overlays).split() == ["ingress"]
    node.nothing_is_left()


def test_kernels_run_as_the_configured_user_who_owns_what_is_theirs(docker):
    node = docker()
    user = "[container]\nkernel-uid = 1234\nkernel-gid = 2345\n"
    node.config.write_text(node.config.read_text().replace("[container]\n", user))
    node.start()
    kernel = node.create()
    script = "id -u; id -g; touch mine && stat -c %u mine; cat /home/config/environ.txt"
    uid, gid, owner, *environ = node.run(kernel, script)[0].split()
    assert (uid, gid, owner) == ("1234", "2345", "1234")
    assert f"BACKENDAI_KERNEL_ID={kernel}" in environ
    assert {"LOCAL_USER_ID=1234", "LOCAL_GROUP_ID=2345"} <= {*environ}
    node.end(signal.SIGKILL)
    node.start()
    node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE)
    assert node.run(kernel, "echo alive")[0] == "alive\n"
    node.destroy(kernel)


def test_a_damaged_runner_is_noticed_and_made_again(docker):
    node = docker()
    node.start()
    node.destroy(node.create())
    (bundle,) = (path for path in (node.state / "runner").iterdir() if path.is_dir())
    node.end()
    (bundle / "lib" / "ld.so").unlink()
    (bundle / "lib" / "ld.so").write_bytes(b"broken")
    node.start()
    kernel = node.create()
    assert node.run(kernel, "echo whole")[0] == "whole\n"
    node.destroy(kernel)


def test_files_are_moved_and_a_container_becomes_an_image(docker, engine, tmp_path):
    node = docker()
    node.start()
    kernel = node.create(env={"SECRET": "token"})
    (tmp_path / "in.bin").write_bytes(os.urandom(100_000))
    node.agentctl("cp", str(tmp_path / "in.bin"), f"{kernel}:data.bin")
    node.agentctl("cp", f"{kernel}:data.bin", str(tmp_path / "out.bin"))
    assert (tmp_path / "out.bin").read_bytes() == (tmp_path / "in.bin").read_bytes()
    node.run(kernel, "echo kept > /tmp/kept")
    assert node.agentctl("cp", f"{kernel}:/tmp/kept", "-") == "kept\n"
    state = node.json("kernels", "commit", kernel, "kept:1", "--archive", "mine/kept.tar.gz")
    archive = node.state / "commits" / "mine" / "kept.tar.gz"
    assert (state["status"], state["archive"]) == ("done", str(archive))
    assert state["size"] == archive.stat().st_size
    engine.docker("load", given=gzip.decompress(archive.read_bytes()))
    node.agentctl("kernels", "commit", kernel, "kept:2", "--archive", "../out.tar.gz", code=1)
    shown = json.loads(engine.docker("inspect", "kept:1"))[0]["Config"]
    assert "token" not in str(shown)
    assert "ai.backend.owner" not in {k for k, v in (shown["Labels"] or {}).items() if v}
    assert "/opt/kernel/bin/start" not in str(shown["Entrypoint"])
    node.destroy(kernel)
    kernel = node.create(image="kept:1")
    assert node.run(kernel, "cat /tmp/kept")[0] == "kept\n"
    node.destroy(kernel)
    assert Path(tmp_path / "in.bin").exists()


def test_a_batch_of_two_containers_ends_while_no_agent_is_there_and_is_told_once(docker):
    node = docker()
    node.start()
    spec = {"image": BUSYBOX, "slots": {"mem": "64m"}}
    # The other side of the session is named, reached and ready before the command begins.
    command = "nslookup sub1 && cat prepared; until [ -e go ]; do sleep 0.1; done; exit 6"
    first = {**spec, "startup_command": command, "bootstrap_script": "echo ready > prepared\n"}
    created = node.ask("create_session", [first, spec])
    kernels = [kernel.kernel_id for kernel in created.kernels]

    async def read(agent):
        async for item in agent.get_logs(kernels[0], follow=True):
            if b"ready" in item.data:
                return

    for kernel in kernels:
        node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE)
    node.talk(read)
    node.end(signal.SIGKILL)
    [prepared] = Path(node.scratches).rglob("prepared")
    prepared.with_name("go").touch()
    node.start()
    assert [node.ended(kernel).reason for kernel in kernels] == ["task-failed", "session-ended"]
    told = [event for event in node.events() if event.name.startswith("session.")]
    assert [(e.name, e.kernel_id, e.data["exit_code"]) for e in told] == [
        ("session.failure", kernels[0], 6)
    ]
    assert "ready" in node.agentctl("kernels", "logs", kernels[0])


def test_a_model_is_served_in_a_container_and_followed_by_its_runner(docker):
    node = docker()
    node.start()
    body = {"action": "write_file", "args": {"filename": "www/health", "body": "well"}}
    service = {
        "pre_start_actions": [{"action": "mkdir", "args": {"path": "www"}}, body],
        "start_command": "echo $$ > pid; exec httpd -f -p $BACKENDAI_PORT_LLM -h www",
        "port": 8000,
        "health_check": {"path": "/health", "max_retries": 2, "interval": 0.1},
    }
    kernel = node.create(model_definition={"models": [{"name": "llm", "service": service}]})

    def arrives_at(status):
        deadline = time.monotonic() + DEADLINE
        while (model := node.ask("list_services", kernel)[0].model).status != status:
            assert time.monotonic() < deadline, model
            time.sleep(0.05)
        return model

    arrives_at("healthy")
    node.run(kernel, "mv www/health www/gone")
    assert "/health with 404 instead of 200, 2 times in a row" in arrives_at("unhealthy").message
    node.end(signal.SIGKILL)
    node.start()
    arrives_at("unhealthy")
    node.run(kernel, "kill -9 $(cat pid); mv www/gone www/health")
    assert arrives_at("healthy").restarts == 1
    node.destroy(kernel)
    node.nothing_is_left()
