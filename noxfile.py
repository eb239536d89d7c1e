"""Every task of the project: `python3 noxfile.py SESSION...` needs Python >= 3.11 and nothing else.

    demo    start an agent, run code in a kernel with half a mock GPU, give everything back
    tests   the whole test suite
    lint    ruff, import rules
    types   mypy --strict
    docs    build the documentation
    wheels  build every wheel, install them into clean environments, use them outside the checkout
    bench   measure, and write docs/reference/benchmarks.md from the run's own figures

Run as a script it makes itself an environment with nox in it first; `nox -s SESSION` works as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"
MEMBERS = [
    ROOT / "backends/agent-kernel-runner",
    ROOT / "backends/agent-backend-process",
    ROOT / "backends/agent-backend-dummy",
    ROOT / "backends/agent-backend-docker",
    ROOT / "plugins/accel-mock",
    ROOT / "plugins/accel-cuda",
    ROOT / "plugins/scratch-hostdir",
]


def boot(arguments: list[str]) -> int:
    """Run nox in an environment of its own, made at the first run."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs an older one is told so
        print(f"This project needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
        return 1
    home = ROOT / ".nox" / "boot"
    python = home / "bin" / "python"
    stamp = home / "made-from"
    wanted = _digest([CONSTRAINTS])
    if not stamp.exists() or stamp.read_text() != wanted:
        print("First run: making an environment in .nox (about half a minute) ...", flush=True)
        try:
            venv.create(home, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            print("Python's venv module cannot make environments here.")
            print("On Debian and Ubuntu: apt-get install python3-venv")
            return 1
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        subprocess.run([*install, "-c", CONSTRAINTS, "nox"], check=True)
        stamp.write_text(wanted)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    names = [a for a in arguments[:at] if not a.startswith("-")]
    options = [a for a in arguments[:at] if a.startswith("-")] + arguments[at:]
    nox_file = ["--noxfile", str(ROOT / "noxfile.py")]
    command = [str(python), "-m", "nox", *nox_file, "--sessions", *names, *options]
    return subprocess.run(command, check=False).returncode


def _digest(files: list[Path]) -> str:
    content = b"\0".join(file.read_bytes() for file in sorted(files) if file.exists())
    return hashlib.sha256(sys.version.encode() + content).hexdigest()


if __name__ == "__main__":
    sys.exit(boot(sys.argv[1:] or ["demo"]))

import nox  # noqa: E402 - not there until boot() has installed it

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "venv"


def group(name: str) -> list[str]:
    """The requirements of one dependency group of pyproject.toml."""
    return list(nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"][name])


def install(session: nox.Session, *requirements: str, members: bool = True) -> None:
    """Install the checkout and its members editable, unless nothing has changed since."""
    projects = [ROOT / "pyproject.toml", *(m / "pyproject.toml" for m in MEMBERS)]
    stamp = Path(session.virtualenv.location) / "made-from"
    wanted = _digest([CONSTRAINTS, *projects]) + " ".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    pinned = ["-q", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    session.install(*pinned, "hatchling", "editables", *requirements)
    if members:
        editable = [part for path in [ROOT, *MEMBERS] for part in ("-e", str(path))]
        session.install(*pinned, "--no-build-isolation", *editable)
    stamp.write_text(wanted)


@nox.session
def demo(session: nox.Session) -> None:
    """Start an agent, run code in a kernel with half a mock GPU, and give everything back."""
    install(session)
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite."""
    install(session, *group("tests"))
    session.run("python", "-m", "pytest", *(session.posargs or _side_by_side()))


def _side_by_side() -> list[str]:
    """Share the files of the whole suite among processes, in their order: long ones come early.

    More than four would only wait for each other: most of the time goes into starting processes.
    """
    workers = min(os.cpu_count() or 1, 4)
    return ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the import rules."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, "nox", *group("types"), *group("tests"))
    session.run("mypy", "agent_core", "noxfile.py", "examples")
    for member in MEMBERS:
        session.run("mypy", "--config-file", str(ROOT / "pyproject.toml"), str(member / "src"))


@nox.session
def docs(session: nox.Session) -> None:
    """Generate the reference from the code and build the documentation."""
    install(session, *group("docs"))
    session.run("python", "docs/generate.py", "--check")
    session.env["NO_MKDOCS_2_WARNING"] = "1"  # a banner about a successor, not about our pages
    session.run(
        "mkdocs", "build", "--strict", "--quiet", "--site-dir", session.create_tmp() + "/site"
    )


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every wheel, install the README's sets, and run a kernel from outside the checkout."""
    install(session, "build", "hatchling", members=False)
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for path in [ROOT, *MEMBERS]:
        session.run(
            "python",
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(dist),
            str(path),
            silent=True,
        )
    session.run("python", "tests/wheels/check_wheels.py", str(dist), str(CONSTRAINTS))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and write the table of the documentation from the run's own figures."""
    install(session, *group("tests"))
    session.run("python", "tests/bench/run.py", *session.posargs)
