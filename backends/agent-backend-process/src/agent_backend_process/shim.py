"""Start the supervision of one container: ``python -I -S shim.py DIRECTORY``.

The work is in `supervision`, so that its compiled form is cached: the interpreter compiles the file
that it is started with anew each time. Nothing but the standard library is imported.
"""

import sys

if __name__ == "__main__":
    # Last on the path: nothing installed beside this package shadows the standard library.
    sys.path.append(__file__.rsplit("/", 2)[0])
    from agent_backend_process.supervision import main

    main(sys.argv[1])
