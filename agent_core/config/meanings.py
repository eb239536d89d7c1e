"""What each key of the configuration means, in words: for the sample, the schema and the docs.

Nothing that runs the agent reads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEANINGS: Final[Mapping[str, str]] = {
    "agent.id": "the agent's name: of its state directory, and part of every container's name",
    "agent.backend": "the one backend plugin to load",
    "agent.rpc-listen-addr": 'where the RPC is served over TCP, with CURVE; `"none"` for no TCP',
    "agent.rpc-insecure": "serve TCP without CURVE: whoever can connect may do everything",
    "agent.allow-compute-plugins": "device plugins that may load; absent: all, empty: none",
    "agent.block-compute-plugins": "device plugins that may not load; wins over every allow list",
    "agent.ipc-base-path": "parent of the run directory, where the kernels' sockets are",
    "agent.var-base-path": "parent of the state directory",
    "agent.ledger-backup-interval": (
        "how often the ledger is copied, where something has changed; the last two copies are kept"
    ),
    "agent.scaling-group": "the group that this node belongs to; of use once there is a manager",
    "agent.pid-file": "a file for the agent's process id",
    "agent.image-commit-path": (
        "where committed images are written as files; by default in the state directory"
    ),
    "agent.sync-container-lifecycles.enabled": (
        "compare the ledger with the world regularly, not only at the start and when an "
        "interruption of the backend's events is over"
    ),
    "agent.sync-container-lifecycles.interval": "the time between two comparisons",
    "plugins.allow": "plugins of every kind that may load; absent: all, empty: none",
    "plugins.block": "plugins of every kind that may not load; wins over every allow list",
    "plugins.inline": (
        "device plugins that run in the agent's own process, without a worker of their own; "
        "`cpu`, `mem` and accel-mock always do"
    ),
    "plugins.worker-memory": (
        "resident memory beyond which a plugin's worker is started again; 0: no limit"
    ),
    "plugins.deadline": "how long opening one plugin may take",
    "agent.intrinsic": "the cores and the memory of a simulated node; for the dummy backend",
    "agent.resource": "the same, as `cpu.num-core` and `memory.size`; for the dummy backend",
    "agent.delay": "how long a simulated runtime takes; for the dummy backend",
    "agent.image": "the images of a simulated node; for the dummy backend",
    "kernel": "how simulated kernels behave; for the dummy backend",
    "kernel-creation-ctx": "how long the parts of a simulated create take; for the dummy backend",
    "plugin": "a table of each plugin's own, by its name",
    "container.scratch-type": (
        "the one scratch plugin to load; by default the one that comes with the backend, else "
        "`hostdir`"
    ),
    "container.scratch-root": "where scratch storage is made",
    "container.scratch-size": "the size of a kernel's scratch; 0 is without limit",
    "container.runner": (
        "the one kernel runner to load; by default the one that comes with the backend, else "
        "`default`"
    ),
    "container.stop-grace": "how long a container may take to end before it is killed",
    "container.bind-host": (
        "the address that kernels' ports are published on; `0.0.0.0` is all of this node's"
    ),
    "container.advertised-host": (
        "where callers reach published ports; empty: `bind-host`, or the host's name where that "
        "is every address"
    ),
    "container.port-range": "the ports that kernels' ports are published on, both ends included",
    "container.port-reuse-cooldown-sec": (
        "how long a port that was given back rests before it is given again"
    ),
    "container.kernel-uid": (
        "the user that kernels run as, where the backend isolates them; -1: the agent's own"
    ),
    "container.kernel-gid": "the group that kernels run as, in the same way",
    "container.alternative-bridge": (
        "the network that kernels join instead of the backend's default one"
    ),
    "container.swarm-enabled": "sessions have networks over several nodes, by Docker Swarm",
    "container-logs.driver": "how the backend keeps what kernels print",
    "container.built-in-services": (
        "the system's own services that every kernel publishes, asked for or not: `sshd`, `ttyd`"
    ),
    "container.ports-file": (
        "a file in which the agent keeps where kernels' services are reached, for an app proxy"
    ),
    "container.service-tls-cert": (
        "the certificate, with those between it and its root, with which the agent serves kernels' "
        "ports over TLS; read again at each reload"
    ),
    "container.service-tls-key": "the private key of that certificate, without a password",
    "container.service-tls-idle-timeout": (
        "how long nothing may be said on a connection to a service over TLS"
    ),
    "resource.reserved-cpu": "how many cores are kept from kernels, the lowest-numbered first",
    "resource.reserved-mem": "how much memory is kept from kernels",
    "resource.shared-cpu": (
        "how many cores are a pool that kernels share, the lowest-numbered after the reserved "
        "ones: a request with a fraction, such as `cpu=0.5`, is served by it alone, a whole one "
        "never; 0: fractions are refused"
    ),
    "resource.cpu-overcommit": (
        "how many kernels may share a core on average; none has a core twice, so one kernel still "
        "gets at most every core"
    ),
    "resource.mem-overcommit": (
        "how much of the unreserved memory is promised; what is promised beyond it may be missing "
        "when all use what they have, and the system then kills processes"
    ),
    "resource.device-mask": (
        "devices that get no new grants, by plugin: ids, physical keys or globs of them, such as "
        '`cuda = ["GPU-8f2c*"]`; what runs on them keeps them'
    ),
    "resource.device-interval": (
        "how often plugins are asked for their devices: the longest that a device which has come, "
        "gone or failed is unknown as such"
    ),
    "resource.allocation-strategy": "how a request that fits no single device is split",
    "logging.level": "the least severe messages that are logged",
    "logging.drivers": "where messages go: `console`, `file`",
    "logging.console.colored": "colours on the console; by default where it is a terminal",
    "logging.console.format": "how a line looks: simple, verbose or json",
    "logging.file.path": "the directory of the log file; by default `logs` in the state directory",
    "logging.file.filename": "the log file's name",
    "logging.file.backup-count": "how many rotated files are kept",
    "logging.file.rotation-size": "the size at which the file is rotated",
    "logging.file.format": "how a line looks: simple, verbose or json",
    "logging.pkg-ns": 'levels of single loggers by name; `""` is the root',
    "debug.enabled": "log everything that the agent itself has to say",
    "debug.log-events": "log every event",
    "kernel-lifecycles.init-timeout": "how long a kernel's runner has to connect",
    "kernel-lifecycles.stranger-policy": (
        "what is done with what is provably this agent's and held by nobody: report, or remove"
    ),
    "kernel-lifecycles.stranger-grace": (
        "how long such a thing must have been seen before that; counted anew from each start"
    ),
    "agent.region": "the region that this node is in; shown by `agentctl status`",
    "agent.instance-type": "the kind of machine that this node is; shown by `agentctl status`",
    "agent.public-host": "the node's public name; shown by `agentctl status`",
    "agent.advertised-rpc-addr": (
        "where callers reach the RPC, where that is another address than the one listened on; "
        "shown by `agentctl status`"
    ),
    "agent.event-loop": "the event loop; uvloop comes with `pip install 'agent-core[uvloop]'`",
    "agent.kernel-creation-concurrency": (
        "how many kernels are built at once: more are accepted and wait; absent: no limit"
    ),
    "container-logs.max-length": "how much of what a kernel prints is kept",
    "api.pull-timeout": "how long fetching an image may take",
    "api.commit-timeout": "how long making a kernel into an image may take",
    "api.push-timeout": "how long sending an image to its registry may take",
    "debug.asyncio": "the event loop's debug mode: slow callbacks and forgotten awaits are logged",
    "debug.log-docker-events": "log every event of the backend",
    "debug.skip-container-deletion": (
        "leave containers that have ended to be looked at: they are told of as held by nobody, and "
        "`agentctl leaks --fix` removes those that are older than `stranger-grace`"
    ),
    "debug.kernel-runner": "note in each new kernel's log what its runner hears and says",
    "debug.log-kernel-config": "log what each kernel's container is made of, secrets masked",
    "debug.coredump.enabled": (
        "let kernels write core files, and keep those that are in a kernel's working directory at "
        "its end"
    ),
    "debug.coredump.path": "where they are kept; by default `coredumps` in the state directory",
    "debug.coredump.backup-count": "how many are kept; the oldest go first",
    "debug.coredump.size-limit": "the size of the largest that a kernel may write",
    "debug.log-alloc-map": "log what is granted of each device, when a kernel takes or frees some",
}
"""What each key means."""

LATER: Final[Mapping[str, str]] = {
    "agent.internal-addr": "where the agent's HTTP service listens",
    "agent.announce-internal-addr": "where others reach that service",
    "agent.ssl-enabled": "serve HTTP over TLS",
    "agent.ssl-cert": "the certificate of the HTTP service",
    "agent.ssl-key": "the private key of the HTTP service",
    "agent.mount-path": "the parent of the volumes that are mounted",
    "agent.mount-path-uid-gid": "who owns that directory",
    "agent.cohabiting-storage-proxy": "whether the storage proxy runs on this node as well",
    "agent.skip-manager-detection": "start without waiting for a manager",
    "agent.metadata-server-bind-host": "where the kernels' metadata service listens",
    "agent.metadata-server-port": "its port",
    "agent.allow-network-plugins": "network plugins that may load",
    "agent.block-network-plugins": "network plugins that may not load",
    "agent.abuse-report-path": "where reports of abuse by kernels are found",
    "agent.force-terminate-abusing-containers": "end kernels that are reported",
    "agent.agent-sock-port": "the port by which kernels call the agent",
    "agent.scaling-group-type": "what the node's group is for",
    "agent.utilization-metric.node.enable": "measure the node",
    "agent.utilization-metric.node.interval": "how often",
    "agent.utilization-metric.container.enable": "measure kernels",
    "agent.utilization-metric.container.interval": "how often",
    "agent.utilization-metric.process.enable": "measure the kernels' processes",
    "agent.utilization-metric.process.interval": "how often",
    "container.stats-type": "the one statistics plugin to load",
    "resource.reserved-disk": "how much disk is kept from kernels",
    "debug.enhanced-aiomonitor-task-info": "tell where each task of the agent was begun",
    "debug.log-stats": "log what is measured",
    "debug.log-heartbeats": "log the heartbeats to the manager",
    "debug.heartbeat-interval": "the time between two of them",
    "etcd.namespace": "the part of etcd that this cluster has",
    "etcd.addr": "where etcd is reached",
    "etcd.user": "the user of etcd",
    "etcd.password": "that user's password",
    "redis.addr": "where Redis is reached",
    "redis.sentinel": "the sentinels of Redis, instead of its address",
    "redis.service-name": "the name of the service that the sentinels know",
    "redis.password": "the password of Redis",
    "watcher.service-addr": "where the watcher listens",
    "watcher.ssl-enabled": "serve the watcher over TLS",
    "watcher.ssl-cert": "the watcher's certificate",
    "watcher.ssl-key": "the watcher's private key",
    "watcher.target-service": "the unit of systemd that the watcher controls",
    "watcher.soft-reset-available": "whether the watcher may restart the agent with its kernels",
    "logging.logstash.endpoint": "where Logstash is reached",
    "logging.logstash.protocol": "by which protocol",
    "logging.logstash.ssl-enabled": "over TLS",
    "logging.logstash.ssl-verify": "check the certificate of Logstash",
    "logging.graylog.host": "where Graylog is reached",
    "logging.graylog.port": "its port",
    "logging.graylog.level": "the least severe messages that are sent",
    "logging.graylog.localname": "the name of this node in them",
    "logging.graylog.fqdn": "the full name of this node in them",
    "logging.graylog.ssl-verify": "check the certificate of Graylog",
    "logging.graylog.ca-certs": "the authorities that it is checked against",
    "logging.graylog.keyfile": "the agent's private key",
    "logging.graylog.certfile": "the agent's certificate",
    "pyroscope.enabled": "send profiles to Pyroscope",
    "pyroscope.app-name": "under which name",
    "pyroscope.server-addr": "where Pyroscope is reached",
    "pyroscope.sample-rate": "samples in a second",
    "otel.enabled": "send logs and traces by OpenTelemetry",
    "otel.log-level": "the least severe messages that are sent",
    "otel.endpoint": "where they are sent",
    "otel.max-queue-size": "how many wait at most",
    "otel.max-export-batch-size": "how many are sent at once",
    "service-discovery.type": "where services are announced",
    "service-discovery.instance-id": "the name of this one",
    "service-discovery.service-group": "the group that it is announced in",
    "service-discovery.endpoints": "what is announced",
}
"""What each key means that takes effect with a later feature."""

EXAMPLES: Final[Mapping[str, str]] = {
    "agent.id": '"i-node1"',
    "agent.allow-compute-plugins": '["cuda", "mock"]',
    "agent.allow-network-plugins": '["overlay"]',
    "agent.block-network-plugins": '["overlay"]',
    "pyroscope.sample-rate": "100",
    "agent.ipc-base-path": '"/run/agent-core"',
    "agent.var-base-path": '"/var/lib/agent-core"',
    "agent.pid-file": '"/run/agent-core/agent.pid"',
    "agent.image-commit-path": '"/var/lib/agent-core/commits"',
    "agent.advertised-rpc-addr": '"10.0.0.1:6011"',
    "agent.kernel-creation-concurrency": "32",
    "plugins.allow": '["process", "cpu", "mem"]',
    "container.scratch-type": '"hostdir"',
    "container.runner": '"default"',
    "container.alternative-bridge": '"kernels"',
    "container-logs.driver": '"local"',
    "container.ports-file": '"/run/agent-core/ports.json"',
    "container.service-tls-cert": '"/etc/agent-core/services.crt"',
    "container.service-tls-key": '"/etc/agent-core/services.key"',
    "logging.console.colored": "true",
    "logging.file.path": '"/var/log/agent-core"',
    "api.push-timeout": '"1h"',
    "debug.coredump.path": '"/var/lib/agent-core/coredumps"',
}
"""A value for each key that has no default, to show how one looks."""
