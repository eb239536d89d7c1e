"""The Python side of query mode: keeps a namespace and runs code in it, as a prompt would.

A stand-alone script for the image's interpreter, any Python from 3.8 on, of the standard library
alone: ``python -u python.py FD``. The descriptor is its control channel: frames of a 4-byte length
and JSON. It is told ``run {code}``, ``complete {code, cursor}`` and ``input {number, text}``, and
says ``ready``, ``begun``, ``waiting {number, prompt, password}``, ``done {exit_code,
interrupted}`` and ``completions {matches}``.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import faulthandler
import getpass
import json
import keyword
import linecache
import os
import select
import signal
import sys
import threading
import traceback
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

_FUTURES = 0
for _name in __future__.all_feature_names:
    _FUTURES |= getattr(__future__, _name).compiler_flag

_SOURCES = 1000  # runs whose source lines tracebacks can still show
_MATCHES = 500
_PROMPT = 8 << 10
_INTERRUPTED = 130


class Control:
    """The control channel. An interrupt never tears a frame apart."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._received = bytearray()
        self._poller = select.poll()
        self._poller.register(fd, select.POLLIN)

    def close(self) -> None:
        """Give it up, as a forked child must, since the channel is its parent's."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def send(self, message: Dict[str, Any]) -> None:
        """Send one message whole."""
        body = json.dumps(message).encode()
        data = memoryview(len(body).to_bytes(4, "big") + body)
        with Sheltered():
            while data:
                data = data[os.write(self.fd, data) :]

    def receive(self) -> Optional[Dict[str, Any]]:
        """Wait for one message, here and nowhere else interruptible; None when the runner left."""
        while True:
            message = self._take()
            if message is not None:
                return message
            self._poller.poll()
            with Sheltered():
                chunk = os.read(self.fd, 1 << 16)
                self._received += chunk
            if not chunk:
                return None

    def _take(self) -> Optional[Dict[str, Any]]:
        end = 4 + int.from_bytes(self._received[:4], "big")
        if len(self._received) < 4 or len(self._received) < end:
            return None
        message: Dict[str, Any] = json.loads(bytes(self._received[4:end]))
        del self._received[:end]
        return message


class Sheltered:
    """Holds an interrupt back while it lasts; only the main thread is ever interrupted."""

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        self._pending = False
        if self._main:
            self._handler = signal.signal(signal.SIGINT, self._hold)

    def _hold(self, *_: object) -> None:
        self._pending = True

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._handler)
            if self._pending:
                signal.raise_signal(signal.SIGINT)


def ignore_interrupts() -> None:
    """Let interrupts pass; one that strikes meanwhile meant what has just ended."""
    while True:
        try:
            signal.signal(signal.SIGINT, lambda *_: None)
        except KeyboardInterrupt:
            continue
        return


class Prompter:
    """Asks the user, in the place of a terminal."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._turn = threading.Lock()
        self._gate = threading.Lock()
        self._number = 0
        self._running = False

    def open(self) -> None:
        """Begin a run: now there is somebody to ask."""
        self._running = True

    def close(self) -> None:
        """End a run: from here on every question fails, and none is asked after the run's end."""
        with self._gate:
            self._running = False

    def wait(self) -> None:
        """Return once no thread reads the control channel any more."""
        with self._turn:
            return

    def input(self, prompt: object = "") -> str:
        """Stand in for `input`."""
        return self._ask(str(prompt), password=False)

    def getpass(self, prompt: str = "Password: ", stream: object = None) -> str:
        """Stand in for `getpass.getpass`."""
        return self._ask(str(prompt), password=True)

    def _ask(self, prompt: str, *, password: bool) -> str:
        flush()
        with self._turn:
            with self._gate:
                if self._control.fd < 0 or not self._running:
                    raise EOFError("nobody can be asked: no run of this kernel is waiting here")
                self._number += 1
                number = self._number
                self._control.send(
                    {
                        "type": "waiting",
                        "number": number,
                        "prompt": prompt[:_PROMPT],
                        "password": password,
                    }
                )
            return self._answer(number)

    def _answer(self, number: int) -> str:
        while True:
            message = self._control.receive()
            if message is None:
                os._exit(1)
            if message["type"] == "input" and message["number"] == number:
                if message["text"] is None:
                    raise EOFError("the run has ended without an answer")
                return str(message["text"])


class Interpreter:
    """Runs code in one namespace, that of the module ``__main__``.

    Args:
        control: Where requests come from.
        prompter: Answers for `input`.
    """

    def __init__(self, control: Control, prompter: Prompter) -> None:
        self._control = control
        self._prompter = prompter
        self._pid = os.getpid()
        self._flags = 0
        self._count = 0
        self._module = types.ModuleType("__main__")
        self._module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = self._module

    def serve(self) -> None:
        """Do what is asked, until the runner leaves."""
        ignore_interrupts()
        self._control.send({"type": "ready"})
        while True:
            request = self._control.receive()
            if request is None:
                return
            if request["type"] == "run":
                self._run(request["code"])
            elif request["type"] == "complete":
                self._complete(request["code"], request["cursor"])

    def _run(self, code: str) -> None:
        self._prompter.open()
        exit_code = self._guarded(lambda: self._execute(code))
        if os.getpid() != self._pid:
            # A child that the code forked came back here, where its parent's life goes on.
            flush()
            os._exit(exit_code)
        flush()
        self._prompter.close()
        interrupted = self._was_interrupted
        self._control.send({"type": "done", "exit_code": exit_code, "interrupted": interrupted})
        self._prompter.wait()

    def _guarded(self, task: Callable[[], None]) -> int:
        """Run a task that an interrupt may end, show what it raises, return its exit code."""
        self._was_interrupted = False
        exit_code = 1
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self._control.send({"type": "begun"})
                task()
                exit_code = 0
            except SystemExit as exc:
                exit_code = leave(exc.code)
            except BaseException as exc:
                self._was_interrupted = isinstance(exc, KeyboardInterrupt)
                exit_code = _INTERRUPTED if self._was_interrupted else 1
                show(exc)
            finally:
                ignore_interrupts()
        except BaseException as exc:
            # An interrupt, or a hook of the user's, struck while the task's end was dealt with.
            ignore_interrupts()
            self._was_interrupted = isinstance(exc, KeyboardInterrupt)
            exit_code = _INTERRUPTED if self._was_interrupted else 1
        return exit_code

    def _execute(self, code: str) -> None:
        restore_output()
        self._count += 1
        name = f"<query-{self._count}>"
        remember(name, code)
        linecache.cache.pop(f"<query-{self._count - _SOURCES}>", None)
        tree = self._compile(code, name, "exec", ast.PyCF_ONLY_AST)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        body = self._compile(tree, name, "exec")
        value = self._compile(last, name, "eval") if last is not None else None
        self._flags |= body.co_flags & _FUTURES
        exec(body, self._module.__dict__)
        if value is not None:
            sys.displayhook(eval(value, self._module.__dict__))

    def _compile(self, source: Any, name: str, mode: str, flags: int = 0) -> Any:
        return compile(source, name, mode, self._flags | flags, True)

    def _complete(self, code: str, cursor: int) -> None:
        matches: List[str] = []
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                matches = completions(self._module.__dict__, code[:cursor])
            finally:
                ignore_interrupts()
        except BaseException:
            ignore_interrupts()
        self._control.send({"type": "completions", "matches": matches})


def remember(name: str, code: str) -> None:
    """Let tracebacks show the lines of code that is in no file."""
    # A last line without its end would move the carets of a traceback by one.
    linecache.cache[name] = (len(code), None, f"{code}\n".splitlines(True), name)


def flush() -> None:
    """Pass on what Python holds back, whatever the user has made of the streams."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except BaseException:
            continue


_pipes: List[int] = []


def restore_output() -> None:
    """Open the streams again that earlier code has closed."""
    if not _pipes:
        _pipes.extend((os.dup(1), os.dup(2)))
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            os.dup2(_pipes[fd - 1], fd)
            text = os.fdopen(fd, "wb", 0, closefd=False)
            setattr(sys, name, as_text(text))


def as_text(raw: Any) -> Any:
    """Make text of a raw stream; nothing is held back and no character is an error."""
    import io

    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


def leave(code: object) -> int:
    """Turn what `sys.exit` was given into an exit code, as the interpreter does at its end."""
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xFF
    try:
        print(code, file=sys.stderr)
    except Exception:
        pass
    return 1


def show(error: BaseException) -> None:
    """Show an exception without the frames of this script."""
    tidy(error, set())
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    try:
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, error.__traceback__)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    except Exception:
        traceback.print_exc(file=sys.__stderr__)


def tidy(error: Optional[BaseException], seen: set[int]) -> None:
    """Drop this script's frames from an exception and from those that led to it."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    error.__traceback__ = without_own(error.__traceback__)
    tidy(error.__cause__, seen)
    tidy(error.__context__, seen)
    for inner in getattr(error, "exceptions", ()):
        if isinstance(inner, BaseException):
            tidy(inner, seen)


def without_own(trace: Optional[types.TracebackType]) -> Optional[types.TracebackType]:
    """Link a traceback past the frames of this script."""
    kept: List[types.TracebackType] = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            kept.append(trace)
        trace = trace.tb_next
    for position, entry in enumerate(kept):
        entry.tb_next = kept[position + 1] if position + 1 < len(kept) else None
    return kept[0] if kept else None


def completions(namespace: Dict[str, Any], text: str) -> List[str]:
    """List what the dotted word at the end of `text` may become."""
    start = len(text)
    while start and (text[start - 1].isalnum() or text[start - 1] in "_."):
        start -= 1
    base, dot, prefix = text[start:].rpartition(".")
    if not dot:
        names = {*keyword.kwlist, *namespace, *dir(builtins)}
        return chosen(names, prefix, "")
    first, *others = base.split(".")
    if first not in namespace and not hasattr(builtins, first):
        return []
    value = namespace.get(first, getattr(builtins, first, None))
    for name in others:
        value = getattr(value, name)
    return chosen(dir(value), prefix, base + ".")


def chosen(names: Any, prefix: str, base: str) -> List[str]:
    """Choose the names that begin so; private ones only where the prefix asks for them."""
    fitting = sorted(
        name
        for name in names
        if isinstance(name, str)
        and name.startswith(prefix)
        and (prefix.startswith("_") or not name.startswith("_"))
    )
    return [base + name for name in fitting[:_MATCHES]]


def main() -> None:
    """Become a prompt: as much like an interactive interpreter as code can tell."""
    control = Control(int(sys.argv[1]))
    os.set_inheritable(control.fd, False)
    os.register_at_fork(after_in_child=control.close)
    prompter = Prompter(control)
    builtins.input = prompter.input
    getpass.getpass = prompter.getpass
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
    sys.argv = [""]
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = ""
    Interpreter(control, prompter).serve()
    flush()
    os._exit(0)


main()
