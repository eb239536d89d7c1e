"""What each method does: parameters in, a call of a service out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent_core.server.services import Code, Content, Kernels, Node
from agent_core.wire import content as c
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import params as p

Handler = Callable[[Any], object]
"""Takes a method's parameters; returns its result, a coroutine of it, or an iterator of items."""


def handlers(node: Node, kernels: Kernels, code: Code, content: Content) -> Mapping[str, Handler]:
    """Say for every method of `agent_core.wire.methods` what it does."""
    return {
        **_node(node),
        **_kernels(kernels),
        **_code(code),
        **_services(code),
        **_content(content),
    }


def _node(node: Node) -> dict[str, Handler]:
    def ping(params: p.Ping) -> m.Pong:
        return m.Pong(text=params.text)

    def get_plugin(params: p.GetPlugin) -> m.PluginDetail:
        return node.plugin(params.name)

    def reset_plugin(params: p.GetPlugin) -> object:
        return node.reset_plugin(params.name)

    def back_up(params: led.BackupLedger) -> object:
        return node.back_up(params.to)

    def call_backend(params: c.CallBackend) -> object:
        return node.command(params.name, params.params)

    def get_config(_: p.NoParams) -> m.Configuration:
        return m.Configuration(values=dict(node.config()))

    return {
        "ping": ping,
        "get_status": lambda _: node.status(),
        "list_plugins": lambda _: node.plugins(),
        "get_plugin": get_plugin,
        "reset_plugin": reset_plugin,
        "list_devices": lambda _: node.devices(),
        "list_slots": lambda _: node.slots(),
        "list_images": lambda _: node.images(),
        "list_leaks": lambda _: node.leaks(),
        "show_ledger": lambda _: node.ledger(),
        "backup_ledger": back_up,
        "fix_leaks": lambda _: node.fix_leaks(),
        "reconcile": lambda _: node.reconcile(act=True),
        "plan_reconcile": lambda _: node.reconcile(act=False),
        "get_config": get_config,
        "reload_config": lambda _: node.reload(),
        "list_commands": lambda _: node.commands(),
        "call_backend": call_backend,
    }


def _kernels(kernels: Kernels) -> dict[str, Handler]:
    def create(params: p.CreateKernel) -> object:
        return kernels.create(params.spec)

    def plan(params: p.CreateKernel) -> object:
        return kernels.plan(params.spec)

    def explain(params: p.KernelParams) -> object:
        return kernels.explain(params.kernel_id)

    def list_(params: p.ListKernels) -> object:
        return kernels.list(include_ended=params.all)

    def show(params: p.KernelParams) -> object:
        return kernels.show(params.kernel_id)

    def destroy(params: p.DestroyKernel) -> object:
        return kernels.destroy(params.kernel_id, params.reason)

    def restart(params: p.RestartKernel) -> object:
        return kernels.restart(params.kernel_id, params.incarnation)

    def wait(params: p.WaitKernel) -> object:
        return kernels.wait(params.kernel_id, params.states)

    def create_session(params: p.CreateSession) -> object:
        return kernels.create_session(params.session_id, params.kernels)

    def list_sessions(params: p.ListSessions) -> object:
        return kernels.list_sessions(include_ended=params.all)

    def destroy_session(params: p.DestroySession) -> object:
        return kernels.destroy_session(params.session_id, params.reason)

    def logs(params: p.GetLogs) -> object:
        return kernels.logs(params.kernel_id, follow=params.follow)

    def events(p: p.WatchEvents) -> object:
        return kernels.events(p.kernel_id, since=p.since, follow=p.follow, progress=p.progress)

    return {
        "create_kernel": create,
        "plan_kernel": plan,
        "explain_kernel": explain,
        "list_kernels": list_,
        "get_kernel_status": show,
        "destroy_kernel": destroy,
        "restart_kernel": restart,
        "wait_kernel": wait,
        "create_session": create_session,
        "list_ports": lambda _: kernels.list_ports(),
        "list_sessions": list_sessions,
        "destroy_session": destroy_session,
        "get_logs": logs,
        "watch_events": events,
    }


def _code(code: Code) -> dict[str, Handler]:
    def send_input(params: p.SendInput) -> object:
        return _done(code.send_input(params.kernel_id, params.run_id, params.text))

    def interrupt(params: p.InterruptKernel) -> object:
        return _done(code.interrupt(params.kernel_id, params.run_id))

    async def complete(params: p.CompleteCode) -> m.Completions:
        matches = await code.complete(params.kernel_id, params.code, params.cursor)
        return m.Completions(matches=list(matches))

    def list_runs(params: p.KernelParams) -> object:
        return code.runs(params.kernel_id)

    return {
        "execute_code": code.execute,
        "list_runs": list_runs,
        "send_input": send_input,
        "interrupt_kernel": interrupt,
        "complete_code": complete,
    }


def _services(code: Code) -> dict[str, Handler]:
    def list_services(params: p.KernelParams) -> object:
        return code.services(params.kernel_id)

    def start_service(params: c.StartService) -> object:
        return code.start_service(params.kernel_id, params.name, params.options)

    def shutdown_service(params: c.ServiceParams) -> object:
        return _done(code.shutdown_service(params.kernel_id, params.name))

    return {
        "list_services": list_services,
        "start_service": start_service,
        "shutdown_service": shutdown_service,
    }


def _content(content: Content) -> dict[str, Handler]:
    def pull(params: c.ImageParams) -> object:
        return content.pull(params.name)

    def push(params: c.ImageParams) -> object:
        return content.push(params.name)

    def purge(params: c.ImageParams) -> object:
        return _done(content.purge(params.name))

    def download(params: c.PathParams) -> object:
        return content.download(params.kernel_id, params.path)

    def list_files(params: c.PathParams) -> object:
        return content.files(params.kernel_id, params.path)

    def commit(params: c.CommitKernel) -> object:
        return content.commit(params.kernel_id, params.image, params.archive)

    def commit_status(params: p.KernelParams) -> object:
        return content.commit_state(params.kernel_id)

    return {
        "pull_image": pull,
        "push_image": push,
        "purge_image": purge,
        "upload_file": lambda params: content.upload(params),
        "download_file": download,
        "list_files": list_files,
        "commit_kernel": commit,
        "get_commit_status": commit_status,
    }


async def _done(operation: Awaitable[None]) -> m.Done:
    await operation
    return m.Done()
