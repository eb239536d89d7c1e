"""What the shim is told: a file of NUL-terminated items, each one letter, ``=`` and a value.

NUL cannot occur in arguments, environment or paths, so that nothing needs quoting and the shim no
parser. This module is shared with the shim.
"""

from __future__ import annotations

_NUL = b"\0"


class Launch:
    """How to start a container's main process, all in the bytes that the host's kernel takes.

    Attributes:
        argv: The command; its first item is an absolute path.
        env: The whole environment, ``KEY=value`` each.
        cwd: The working directory.
        log_limit: Bytes of output to keep.
        kill_group: The cgroup by which everything is killed; empty when there is none.
        cgroups: All cgroups to join.
        cpus: The cores to run on; empty leaves them as they are.
        groups: Supplementary group ids to add.
        rlimits: Values by number of the limit; -1 is unlimited.
    """

    __slots__ = (
        "argv",
        "cgroups",
        "cpus",
        "cwd",
        "env",
        "groups",
        "kill_group",
        "log_limit",
        "rlimits",
    )

    def __init__(self) -> None:
        self.argv: list[bytes] = []
        self.env: list[bytes] = []
        self.cwd = b"/"
        self.log_limit = 0
        self.kill_group = b""
        self.cgroups: list[bytes] = []
        self.cpus: list[int] = []
        self.groups: list[int] = []
        self.rlimits: dict[int, int] = {}

    def encode(self) -> bytes:
        """Render the file's content."""
        items = [b"d=" + self.cwd, b"l=%d" % self.log_limit, b"k=" + self.kill_group]
        items += [b"a=" + item for item in self.argv]
        items += [b"e=" + item for item in self.env]
        items += [b"g=" + item for item in self.cgroups]
        items += [b"c=%d" % item for item in self.cpus]
        items += [b"u=%d" % item for item in self.groups]
        items += [b"r=%d:%d" % item for item in self.rlimits.items()]
        return b"".join(item + _NUL for item in items)

    @classmethod
    def decode(cls, content: bytes) -> Launch:
        """Read the file's content.

        Raises:
            ValueError: when it is not what `encode` renders.
        """
        launch = cls()
        for item in content.split(_NUL)[:-1]:
            launch._take(item[:2], item[2:])
        return launch

    def _take(self, key: bytes, value: bytes) -> None:
        if key == b"a=":
            self.argv.append(value)
        elif key == b"e=":
            self.env.append(value)
        elif key == b"g=":
            self.cgroups.append(value)
        elif key == b"c=":
            self.cpus.append(int(value))
        elif key == b"u=":
            self.groups.append(int(value))
        elif key == b"r=":
            number, _, limit = value.partition(b":")
            self.rlimits[int(number)] = int(limit)
        elif key == b"d=":
            self.cwd = value
        elif key == b"l=":
            self.log_limit = int(value)
        elif key == b"k=":
            self.kill_group = value
        else:
            raise ValueError(f"unknown item {key!r} in a launch file")
