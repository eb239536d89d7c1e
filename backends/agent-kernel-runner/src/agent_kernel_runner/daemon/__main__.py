"""Start the daemon: ``python -I -S .../daemon/__main__.py NAME=VALUE...``."""

import os.path
import sys

# Behind the standard library, so that nothing that lies beside this package can shadow it.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from agent_kernel_runner.daemon.runner import main

main(sys.argv[1:])
