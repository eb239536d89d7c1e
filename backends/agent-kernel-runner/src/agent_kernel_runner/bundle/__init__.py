"""The bundle: the runner with an interpreter, a standard library and a loader of its own.

A kernel in a container sees none of the host's files, and its image may have no Python, another C
library, or none at all. So the runner brings everything that it needs from the host's own Python:

    bin/start               clears what would misguide the loader, and starts the rest
    bin/python3.X           the host's interpreter
    lib/ld.so               its dynamic loader
    lib/*.so*               every library that it and its modules are linked against
    lib/python3.X/          the standard library, compiled
    lib/agent_kernel_runner the daemon
    manifest.json           every file with its size and SHA-256

It is made in a directory beside its place and renamed into it when it is whole. Its name is a
digest of what it is made from, so that another Python, or another version of the daemon, is another
bundle, and kernels that run keep theirs.
"""
