"""A Jupyter kernel that behaves as badly as it is told to, on real ZeroMQ sockets.

Run as ``python fake_kernel.py CONNECTION_FILE FAULT``. A request's code is a Python list of what
to do: ``["stream", "text"]``, ``["show", {mime: data}]``, ``["ask", prompt, password]``,
``["reply", {...}]``, ``["idle"]``, ``["sleep", seconds]``, ``["raw", parts]``, ``["exit", code]``.
Without a reply or an idle in it, those of success come at its end, unless the fault forbids.
"""

import ast
import hmac
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import zmq

DELIMITER = b"<IDS|MSG>"


class FakeKernel:
    def __init__(self, path, fault):
        self.connection = json.loads(Path(path).read_text())
        self.fault = fault
        self.key = self.connection["key"].encode()
        if fault == "wrong-key":
            self.key = b"another"
        context = zmq.Context()
        self.sockets = {}
        kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.PUB}
        for name, kind in kinds.items():
            self.sockets[name] = context.socket(kind)
            self.sockets[name].bind(self.address(name))
        self.identity = b""
        self.parent = {}

    def address(self, name):
        place, port = self.connection["ip"], self.connection[f"{name}_port"]
        if self.connection["transport"] == "tcp":
            return f"tcp://{place}:{port}"
        return f"ipc://{place}-{port}"

    def send(self, channel, kind, content):
        header = {"msg_id": os.urandom(4).hex(), "msg_type": kind, "session": "s"}
        parts = [json.dumps(part).encode() for part in (header, self.parent, {}, content)]
        signature = hmac.digest(self.key, b"".join(parts), "sha256").hex().encode()
        first = kind.encode() if channel == "iopub" else self.identity
        self.sockets[channel].send_multipart([first, DELIMITER, signature, *parts])

    def serve(self):
        poller = zmq.Poller()
        poller.register(self.sockets["shell"], zmq.POLLIN)
        poller.register(self.sockets["control"], zmq.POLLIN)
        while True:
            for ready, _ in poller.poll():
                parts = ready.recv_multipart()
                self.identity, _, _, header, _, _, content = parts[:7]
                self.parent = json.loads(header)
                self.handle(self.parent["msg_type"], json.loads(content))

    def handle(self, kind, content):
        if kind == "interrupt_request":
            Path(os.environ["FAKE_INTERRUPTED"]).touch()
            return
        if self.fault == "mute":
            return
        if self.fault != "no-status":
            self.send("iopub", "status", {"execution_state": "busy"})
        if kind == "kernel_info_request":
            self.send("shell", "kernel_info_reply", {"status": "ok"})
        elif kind == "complete_request":
            self.send("shell", "complete_reply", ast.literal_eval(os.environ["FAKE_MATCHES"]))
        elif kind == "execute_request":
            self.execute(ast.literal_eval(content["code"]))
            return
        self.send("iopub", "status", {"execution_state": "idle"})

    def execute(self, steps):
        names = [step[0] for step in steps]
        for name, *words in steps:
            getattr(self, f"do_{name}")(*words)
        if "reply" not in names and self.fault != "no-reply":
            self.do_reply({"status": "ok", "execution_count": 1})
        if "idle" not in names and self.fault != "no-idle":
            self.do_idle()

    def do_stream(self, text, times=1):
        for _ in range(times):
            self.send("iopub", "stream", {"name": "stdout", "text": text})

    def do_burst(self, size):
        self.do_stream("x" * size)

    def do_show(self, data):
        self.send("iopub", "display_data", {"data": data, "metadata": {}})

    def do_say(self, kind, content):
        self.send("iopub", kind, content)

    def do_ask(self, prompt, password):
        self.send("stdin", "input_request", {"prompt": prompt, "password": password})
        answer = json.loads(self.sockets["stdin"].recv_multipart()[6])
        self.do_stream(answer["value"] + "\n")

    def do_reply(self, content):
        self.send("shell", "execute_reply", content)

    def do_idle(self):
        self.send("iopub", "status", {"execution_state": "idle"})

    def do_sleep(self, seconds):
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            self.do_stream("interrupted\n")

    def do_raw(self, parts):
        self.sockets["iopub"].send_multipart(parts)

    def do_exit(self, code):
        time.sleep(0.1)  # for the messages that are on their way
        os._exit(code)


def garble(path):
    """Listen as a kernel would, and say what no kernel would."""
    connection = json.loads(Path(path).read_text())
    listeners = []
    for name in ("shell", "control", "stdin", "iopub"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{connection['ip']}-{connection[name + '_port']}")
        listener.listen()
        listeners.append(listener)
    for listener in listeners:
        accepted, _ = listener.accept()
        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100)
    signal.pause()


def main(path, fault):
    transport = json.loads(Path(path).read_text())["transport"]
    if fault == "dies" or (fault == "tcp-only" and transport != "tcp"):
        sys.exit(5)
    if fault == "garbage":
        garble(path)
    FakeKernel(path, fault).serve()


main(*sys.argv[1:])
