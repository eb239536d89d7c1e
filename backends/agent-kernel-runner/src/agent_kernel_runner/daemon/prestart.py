"""What is done before a service starts: files that it needs, and commands that must have ended."""

from __future__ import annotations

import os

from agent_kernel_runner.daemon.definitions import BadDefinition, fill, read_mode
from agent_kernel_runner.daemon.journal import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent_kernel_runner.daemon.definitions import Action
    from agent_kernel_runner.daemon.process import Process

    Spawn = Callable[[list[str], Callable[[int], None]], Process]


class Preparation:
    """Does the actions of a definition one after the other.

    Args:
        actions: The actions.
        values: What templates may name; results with a name are added to it. None where texts
            are no templates.
        directory: Where temporary files lie; it is there.
        spawn: Starts a command, and calls with its exit code.
        done: Called once, with what went wrong or with an empty text.

    Attributes:
        process: The command under way, if one is.
    """

    def __init__(
        self,
        actions: list[Action],
        values: dict[str, str | list[str]] | None,
        directory: str,
        spawn: Spawn,
        done: Callable[[str], None],
    ) -> None:
        self.process: Process | None = None
        self._actions = list(actions)
        self._values = values
        self._directory = directory
        self._spawn = spawn
        self._done = done
        self._stopped = False
        self._files = 0

    def go_on(self) -> None:
        """Do what is left, up to the next command that has to be waited for."""
        while self._actions and not self._stopped:
            action = self._actions.pop(0)
            try:
                waits = self._act(action)
            except BadDefinition as exc:
                self._done(f"its {action.name}: {exc}")
                return
            except OSError as exc:
                self._done(f"its {action.name} failed: {exc.filename or ''}: {exc.strerror}")
                return
            if waits:
                return
        if not self._stopped:
            self._done("")

    def stop(self) -> None:
        """Do no more; the command under way is whoever's who stops it."""
        self._stopped = True

    def _act(self, action: Action) -> bool:
        """Do one action; returns whether its end has to be waited for."""
        if action.name == "run_command":
            self._run([self._text(word) for word in action.args["command"]])
            return True
        if action.name == "log":
            note(self._text(action.args["message"]))
        elif action.name == "mkdir":
            os.makedirs(self._text(action.args["path"]), exist_ok=True)
        else:
            path = self._path(action)
            self._write(path, action.args)
            if action.ref and self._values is not None:
                self._values[action.ref] = path
        return False

    def _path(self, action: Action) -> str:
        if action.name == "write_file":
            return self._text(action.args["filename"])
        self._files += 1
        return f"{self._directory}/file-{self._files}"

    def _write(self, path: str, args: Any) -> None:
        body = args.get("body", "")
        lines = [body] if isinstance(body, str) else [f"{line}\n" for line in body]
        data = "".join(map(self._text, lines)).encode("utf-8", "replace")
        how = os.O_APPEND if args.get("append") is True else os.O_TRUNC
        # Never to wait for a reader of a pipe that lies there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | how
        file = os.open(path, flags, 0o600)
        try:
            os.fchmod(file, read_mode(args.get("mode")))
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)

    def _run(self, command: list[str]) -> None:
        def ended(code: int) -> None:
            self.process = None
            if self._stopped:
                return
            if code:
                self._done(f"its command {command[0]} before the start ended with {code}")
            else:
                self.go_on()

        self.process = self._spawn(command, ended)

    def _text(self, template: str) -> str:
        return template if self._values is None else fill(template, self._values)
