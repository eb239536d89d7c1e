"""Results that outlive the runner: how batches ended, on disk until the agent has acknowledged."""

from __future__ import annotations

import os

from agent_kernel_runner.daemon.journal import note

_SUFFIX = ".json"
_PARTIAL = ".new"


class Results:
    """One file for each result, written whole or not at all.

    The directory belongs to the kernel's user, so what is found in it is read with suspicion.

    Args:
        state_dir: The kernel's directory for what must survive.
    """

    def __init__(self, state_dir: str) -> None:
        self._dir = f"{state_dir}/results"

    def ids(self) -> list[str]:
        """List the runs whose results are still here."""
        try:
            names = sorted(os.listdir(self._dir))
        except OSError:
            return []
        ids = [name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX)]
        return [run_id for run_id in ids if is_run_id(run_id)]

    def load(self, run_id: str) -> tuple[str, int | None] | None:
        """Read a status and exit code; a file that holds none is removed."""
        import json

        try:
            with open(self._path(run_id), "rb") as file:
                data = json.loads(file.read(4096))
            status, code = data["status"], data["exit_code"]
        except (OSError, ValueError, TypeError, KeyError) as exc:
            note(f"the result of run {run_id} is unreadable: {exc}")
            self.discard(run_id)
            return None
        if not isinstance(status, str) or not (code is None or type(code) is int):
            note(f"the result of run {run_id} is no result")
            self.discard(run_id)
            return None
        return status, code

    def save(self, run_id: str, status: str, code: int | None) -> None:
        """Write a result; a disk that does not take it costs its durability and no more."""
        import json

        path = self._path(run_id)
        try:
            os.makedirs(self._dir, exist_ok=True)
            with open(path + _PARTIAL, "wb") as file:
                file.write(json.dumps({"status": status, "exit_code": code}).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + _PARTIAL, path)
        except OSError as exc:
            note(f"the result of run {run_id} cannot be kept on disk: {exc}")

    def discard(self, run_id: str) -> None:
        """Forget a result; does nothing when there is none."""
        try:
            os.unlink(self._path(run_id))
        except OSError:
            pass

    def _path(self, run_id: str) -> str:
        return f"{self._dir}/{run_id}{_SUFFIX}"


def is_run_id(value: object) -> bool:
    """Tell whether a value is 1 to 64 of the characters A-Z a-z 0-9 . _ -; it names a file."""
    if not isinstance(value, str) or not 1 <= len(value) <= 64 or not value.isascii():
        return False
    return value.translate(_PUNCTUATION).isalnum() or not value.translate(_PUNCTUATION)


_PUNCTUATION = {ord(character): None for character in "._-"}
