"""The agent's own files of a kernel's config directory: which there are, and their text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent_core.kernels.assembly import Assembly
from agent_core.kernels.files.folder import PRIVATE, File
from agent_core.kernels.files.lines import write_lines
from agent_core.kernels.files.resource import resource_data, resource_lines
from agent_core.kernels.key_pairs import KeyPair

FILES: Final[Mapping[str, str]] = {
    "resource.txt": "what the kernel has been given, as `KEY=value` lines",
    "resource.json": "the same as JSON, by plugin, slot and device",
    "environ.txt": "the environment of the container, as `KEY=value` lines",
    "environ.json": "the same as a JSON object",
    "cluster.json": "the kernel's place in its session: role, index, hosts, replicas",
    "ssh/id_cluster": "the private key of the session, where its kernels share one",
    "ssh/id_cluster.pub": "the public key of the session",
    "ssh/port-mapping.json": "where the hosts' SSH services are reached, where that was said",
}
"""Every file and what it is."""

_PRIVATE: Final = ("environ.txt", "environ.json", "ssh/id_cluster")


def files_of(build: Assembly, pair: KeyPair | None) -> list[File]:
    """Write all files of one incarnation."""
    return [
        File(path, text.encode("utf-8", "surrogateescape"), *_mode(path))
        for path, text in _texts(build, pair)
    ]


def _mode(path: str) -> tuple[int, ...]:
    return (PRIVATE,) if path in _PRIVATE else ()


def _texts(build: Assembly, pair: KeyPair | None) -> Iterator[tuple[str, str]]:
    yield "resource.txt", write_lines(resource_lines(build))
    yield "resource.json", _json(resource_data(build))
    yield "environ.txt", write_lines(build.env)
    yield "environ.json", _json(build.env)
    yield "cluster.json", _json(_cluster_data(build))
    if pair is not None:
        yield "ssh/id_cluster", pair.private_key.rstrip("\n") + "\n"
        yield "ssh/id_cluster.pub", f"{pair.public_key}\n"
    if build.spec.cluster.ssh_ports:
        ports = {host: [*place] for host, place in build.spec.cluster.ssh_ports.items()}
        yield "ssh/port-mapping.json", _json(ports)


def _cluster_data(build: Assembly) -> dict[str, Any]:
    cluster = build.spec.cluster
    return {
        "session_id": build.spec.session_id,
        "kernel_id": build.spec.kernel_id,
        "mode": cluster.mode,
        "role": cluster.role,
        "index": cluster.index,
        "host": cluster.host,
        "hosts": [*cluster.hosts],
        "size": len(cluster.hosts),
        "replicas": dict(cluster.replicas),
    }


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data) + "\n"
