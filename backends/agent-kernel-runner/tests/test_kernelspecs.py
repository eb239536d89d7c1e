"""Where Jupyter kernels are found, which of them is chosen, and how it is started."""

import json

from agent_kernel_runner.jupyter.kernelspecs import chosen, directories, found


def specify(directory, name, **content):
    place = directory / "kernels" / name
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": ["k", "{connection_file}"], **content}))


def test_directories_come_in_the_order_of_jupyter_each_once():
    env = {"JUPYTER_PATH": "/a:relative:/b", "HOME": "/home/work", "PATH": "/venv/bin:/usr/bin"}
    assert directories("/opt/py/bin/python", env) == [
        "/a/kernels",
        "/b/kernels",
        "/home/work/.local/share/jupyter/kernels",
        "/opt/py/share/jupyter/kernels",
        "/venv/share/jupyter/kernels",
        "/usr/share/jupyter/kernels",
        "/usr/local/share/jupyter/kernels",
    ]


def test_of_two_kernels_with_one_name_the_first_is_taken_and_what_is_none_passed_over(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    specify(first, "same", language="one")
    specify(second, "same", language="two")
    specify(first, "broken", argv="no list")
    specify(second, "empty", argv=[])
    (second / "kernels" / "garbage").mkdir()
    (second / "kernels" / "garbage" / "kernel.json").write_text("[" * 100_000)
    env = {"JUPYTER_PATH": f"{first}:{second}", "HOME": str(tmp_path)}
    specs = [spec for spec in found("/nowhere/bin/x", env) if str(tmp_path) in spec.directory]
    assert [(spec.name, spec.language) for spec in specs] == [("same", "one")]


def test_a_name_is_chosen_before_a_language_and_python_where_nothing_is_said(tmp_path):
    specify(tmp_path, "ir", language="R")
    specify(tmp_path, "python3", language="python")
    specify(tmp_path, "r", language="other")
    env = {"JUPYTER_PATH": str(tmp_path), "HOME": str(tmp_path)}
    specs = [spec for spec in found("/nowhere/bin/x", env) if str(tmp_path) in spec.directory]
    names = {name: getattr(chosen(specs, name), "name", None) for name in ("", "R", "IR", "julia")}
    assert names == {"": "python3", "R": "r", "IR": "ir", "julia": None}
    assert chosen(specs[:1], "").name == "ir"
    assert chosen([specs[0], specs[2]], "") is None


def test_a_command_is_that_of_the_environment_in_which_the_kernel_was_found(tmp_path):
    share = tmp_path / "share" / "jupyter"
    specify(share, "python3", argv=["python", "-m", "k", "{connection_file}", "{resource_dir}"])
    (spec,) = found("/nowhere/bin/x", {"JUPYTER_PATH": str(share)})[:1]
    words = ["-m", "k", "/f", f"{share}/kernels/python3"]
    assert spec.command("/f", "/img/bin/python3", "") == ["/img/bin/python3", *words]
    own = tmp_path / "bin" / "python"
    own.parent.mkdir()
    own.touch(mode=0o755)
    assert spec.command("/f", "/img/bin/python3", "") == [str(own), *words]


def test_a_shell_is_never_taken_for_the_python_of_a_kernel(tmp_path):
    specify(tmp_path, "python3", argv=["python"])
    (spec,) = found("/nowhere/bin/x", {"JUPYTER_PATH": str(tmp_path)})[:1]
    assert spec.command("/f", "/bin/sh", str(tmp_path)) == ["python"]
