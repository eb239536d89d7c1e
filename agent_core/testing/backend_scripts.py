"""What the containers of the backends' suite do, as scripts of the image's shell."""

from __future__ import annotations

from typing import ClassVar

READY = "ready-to-go"
"""What a scripted container prints once it is where the test wants it."""


class ContainerScripts:
    """Commands for test containers; override one where an image's shell needs another.

    Attributes:
        shell: The image's shell, as the container sees it.
    """

    shell: ClassVar[str] = "/bin/sh"

    def argv_exit(self, code: int) -> tuple[str, ...]:
        """Say how to end with an exit code."""
        return (self.shell, "-c", f"exit {code}")

    def argv_signal(self, signal: int) -> tuple[str, ...]:
        """Say how to end by a signal."""
        return (self.shell, "-c", f"kill -{signal} $$; sleep 60")

    def argv_print(self, text: str) -> tuple[str, ...]:
        """Say how to print a line and end."""
        return (self.shell, "-c", f"echo '{text}'")

    def argv_flood(self, lines: int) -> tuple[str, ...]:
        """Say how to print so many numbered lines of 80 bytes and end."""
        script = f"i=0; while [ $i -lt {lines} ]; do printf '%079d\\n' $i; i=$((i+1)); done"
        return (self.shell, "-c", script)

    def argv_sleep(self) -> tuple[str, ...]:
        """Say how to print that it is ready and stay; SIGTERM ends it."""
        return (self.shell, "-c", f"trap 'exit 7' TERM; echo {READY}; sleep 600 & wait")

    def argv_deaf(self) -> tuple[str, ...]:
        """Say how to print that it is ready and stay, whatever SIGTERM says."""
        script = f"trap '' TERM; echo {READY}; while :; do sleep 1; done"
        return (self.shell, "-c", script)

    def argv_daemons(self) -> tuple[str, ...]:
        """Say how to start daemons that leave session and parent, and stay."""
        daemon = "(setsid sleep 600 </dev/null >/dev/null 2>&1 &)"
        return (self.shell, "-c", f"{daemon}; {daemon}; echo {READY}; sleep 600")

    def argv_missing(self) -> tuple[str, ...]:
        """Name a command that is not there."""
        return ("/no/such/program",)

    def argv_greet(self) -> tuple[str, ...]:
        """Say how to print the variable GREETING and the working directory, and end."""
        return (self.shell, "-c", 'echo "$GREETING from $(pwd)"')

    def argv_two_words(self) -> tuple[str, ...]:
        """Say how to print one line, and another a moment later, and end."""
        return (self.shell, "-c", "echo one; sleep 0.3; echo two")

    def argv_abandon(self) -> tuple[str, ...]:
        """Say how to start a daemon that leaves session and parent, and end with code 0."""
        return (self.shell, "-c", "(setsid sleep 600 </dev/null >/dev/null 2>&1 &); exit 0")
