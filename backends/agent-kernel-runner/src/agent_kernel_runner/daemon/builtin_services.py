"""Services that need no definition file where their program is there: shells and notebooks."""

from __future__ import annotations

import os

from agent_kernel_runner.daemon.definitions import Definition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

# Everything is the kernel's user's own, so neither root nor the host's files are needed; who may
# log in is whoever has a key of the session, one that the user put there, or one that was given.
_KEYS = """
set -e
umask 077
cd "$1"
[ -s host_key ] || {make_host_key}
: > authorized_keys
for keys in "$HOME/.ssh/authorized_keys" "$BACKENDAI_CONFIG_DIR/ssh/id_cluster.pub"; do
    if [ -r "$keys" ]; then cat "$keys" >> authorized_keys; fi
done
if [ -n "$AUTHORIZED_KEY" ]; then printf '%s\\n' "$AUTHORIZED_KEY" >> authorized_keys; fi
{make_user_key}
if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
"""
_USER_KEY = """
if [ ! -s authorized_keys ]; then
    mine="$HOME/id_container"
    [ -s "$mine" ] || ssh-keygen -q -t ed25519 -N '' -C container -f "$mine"
    cat "$mine.pub" > authorized_keys
fi
"""
# Its versions before 2024 look for keys in the home of the user database alone, which is not the
# kernel's where kernels are the node's own processes: nothing of ours may be written there.
_DROPBEAR_START = """
home=$(awk -F: -v id="$(id -u)" '$3 == id {print $6; exit}' /etc/passwd)
case "$("$1" -h 2>&1)" in
*"-D "*) keys="-D $2" ;;
*)
    keys=
    if [ "$home" != "$HOME" ]; then
        echo "this dropbear takes keys from $home/.ssh alone, and the kernel's home is $HOME"
        exit 1
    fi
    mkdir -p "$HOME/.ssh"
    cp "$2/authorized_keys" "$HOME/.ssh/authorized_keys"
    ;;
esac
exec "$1" -F -E -s $keys -r "$2/host_key" -p "$3"
"""
_SSHD_CONFIG = [
    "Port {ports[0]}",
    "ListenAddress {host}",
    "HostKey {directory}/host_key",
    "AuthorizedKeysFile {directory}/authorized_keys",
    "PidFile none",
    "UsePAM no",
    "StrictModes no",
    "PasswordAuthentication no",
    "ChallengeResponseAuthentication no",
    "PermitRootLogin prohibit-password",
    "PrintMotd no",
    "Subsystem sftp internal-sftp",
    "{session_env}",
]
_NOTEBOOK = ["--no-browser", "--allow-root", "--ip={host}", "--port={ports[0]}"]
_NOTEBOOK_OPTIONS = {
    "allowed_envs": ["JUPYTER_TOKEN"],
    "allowed_arguments": ["--ServerApp.base_url", "--ServerApp.root_dir"],
}
# Its versions before 1.7 lack the option without which the later ones take no input.
_TTYD = """
case "$(ttyd --help 2>&1)" in *--writable*) writable=--writable ;; *) writable= ;; esac
case "$2" in 0.0.0.0) at= ;; *) at="--interface $2" ;; esac
exec ttyd $writable $at --port "$1" "$3"
"""


def _ssh(make_host_key: str, make_user_key: str, command: list[str], *more: Any) -> dict[str, Any]:
    """Describe a server of SSH by how it makes its keys."""
    script = _KEYS.replace("{make_host_key}", make_host_key)
    script = script.replace("{make_user_key}", make_user_key)
    words = ["/bin/sh", "-c", script, "ssh", "{directory}"]
    return {
        "prestart": [{"action": "run_command", "args": {"command": words}}, *more],
        "command": command,
        "allowed_envs": ["AUTHORIZED_KEY"],
    }


_SSHD = _ssh(
    "ssh-keygen -q -t ed25519 -N '' -f host_key",
    _USER_KEY,
    ["{program}", "-D", "-e", "-f", "{directory}/sshd_config"],
    {
        "action": "write_file",
        "args": {"filename": "{directory}/sshd_config", "body": _SSHD_CONFIG},
    },
)
_DROPBEAR = _ssh(
    "dropbearkey -t ed25519 -f host_key",
    "",
    ["/bin/sh", "-c", _DROPBEAR_START, "dropbear", "{program}", "{directory}", "{host}:{ports[0]}"],
)
_TTYD_WORDS = ["ttyd", "{ports[0]}", "{host}", "{shell}"]
_TABLES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "sshd": [("sshd", _SSHD), ("dropbear", _DROPBEAR)],
    "ttyd": [("ttyd", {"command": ["/bin/sh", "-c", _TTYD, *_TTYD_WORDS]})],
    "jupyter": [
        ("jupyter-notebook", {"command": ["{program}", *_NOTEBOOK], **_NOTEBOOK_OPTIONS}),
        ("jupyter-lab", {"command": ["{program}", *_NOTEBOOK], **_NOTEBOOK_OPTIONS}),
    ],
    "jupyterlab": [("jupyter-lab", {"command": ["{program}", *_NOTEBOOK], **_NOTEBOOK_OPTIONS})],
    "tensorboard": [
        (
            "tensorboard",
            {
                "command": ["{program}", "--host={host}", "--port={ports[0]}"],
                "default_arguments": {"--logdir": "{home}/logs"},
                "allowed_arguments": ["--logdir", "--path_prefix"],
            },
        )
    ],
}


def built_in(name: str, path: str) -> tuple[Definition, str] | None:
    """Find how a service is started without a definition file.

    Args:
        name: The service.
        path: The directories to look for programs in, as ``PATH`` has them.

    Returns:
        The definition and the program's path; None when the service or its program is not there.
    """
    for program, table in _TABLES.get(name, ()):
        if found := find_program(program, path):
            return Definition(table), found
    return None


def programs_of(name: str) -> list[str]:
    """List the programs that could serve a service without a definition file."""
    return [program for program, _ in _TABLES.get(name, ())]


def search_path(env: Mapping[str, str], runtime_path: str) -> str:
    """Put together where programs are looked for: the image's own places, then the system's."""
    return ":".join((env.get("PATH", "/usr/bin:/bin"), os.path.dirname(runtime_path), _SBIN))


def find_program(name: str, path: str) -> str | None:
    """Find a program that can be started; a name with a slash is itself the path."""
    places = [""] if "/" in name else [f"{each}/" for each in path.split(":") if each]
    for place in places:
        found = place + name
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return None
