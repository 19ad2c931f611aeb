"""launch.py as a person meets it: options, sentences instead of tracebacks, exit codes, Ctrl+C."""

from __future__ import annotations

import ast
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.launch.project import LAUNCH, Project

MAIN = """
import os, sys, time
print("main", os.environ.get("PROMPTLOUPE_PASSWORD", ""), *sys.argv[1:], flush=True)
if "--port" in sys.argv and (len(sys.argv) > 5 and sys.argv[-1] == "wait"):
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("main stopped", flush=True)
"""


def assert_one_sentence(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert code == 1
    assert "Traceback" not in out + err
    assert len(err.strip().splitlines()) == 1
    assert err.strip().endswith((".", ".)"))
    for word in words:
        assert word in err


@pytest.fixture
def served(project: Project) -> Project:
    (project.root / "app" / "main.py").write_text(MAIN)
    project.environment.prepare(set())
    return project


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_parses_on_python_38_and_imports_the_standard_library_only() -> None:
    tree = ast.parse(LAUNCH.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    top_level = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert "tomllib" not in top_level


def test_wrong_python_is_refused_with_a_sentence(project: Project) -> None:
    assert_one_sentence(project.run(OLDEST=(9, 0), NEWEST=(9, 9)), "3.11", "{}.{}".format(*sys.version_info))
    assert not project.environment.folder.exists()


def test_help_names_the_options_and_installs_nothing(project: Project) -> None:
    code, out, _ = project.run("--help")
    assert code == 0
    for option in ("--port", "--listen", "--password", "--workspace", "--reinstall", "test", "doctor"):
        assert option in out
    assert project.pip_calls() == []


def test_port_taken(project: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert_one_sentence(project.run("--port", port), port, "taken", "--port 7861")
    assert project.pip_calls() == []


@pytest.mark.parametrize("port", ["0", "-1", "70000"])
def test_impossible_port(served: Project, port: str) -> None:
    assert_one_sentence(served.run("--port", port), port, "1024 to 65535")


def test_listen_needs_a_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_sentence(project.run("--listen"), "PROMPTLOUPE_PASSWORD", "--password")
    assert_one_sentence(project.run("--listen", "--password", ""), "PROMPTLOUPE_PASSWORD")
    monkeypatch.setenv("PROMPTLOUPE_PASSWORD", "")
    assert_one_sentence(project.run("--listen"), "PROMPTLOUPE_PASSWORD")
    assert project.pip_calls() == []


def test_no_network_no_disk_no_project(project: Project) -> None:
    project.plan_pip("ERROR: NewConnectionError: Failed to establish a new connection", code=1)
    assert_one_sentence(project.run("doctor"), "internet", ".venv.log")
    assert_one_sentence(project.run("doctor", DISK_GB=10**6), "1000000 GB")
    (project.root / "pyproject.toml").unlink()
    project.plan_pip("Installing collected packages: thing")
    assert_one_sentence(project.run("doctor"), "pyproject.toml")


@pytest.mark.skipif(sys.platform != "linux", reason="uses a file that not even root may write")
def test_folder_that_cannot_be_written(project: Project) -> None:
    (project.root / ".venv.lock").symlink_to("/proc/sys/kernel/osrelease")
    assert_one_sentence(project.run("doctor"), "copy it to a folder of your own")


def test_python_without_venv(project: Project) -> None:
    broken = project.root / "broken_venv.py"
    broken.write_text("print('The virtual environment was not created because ensurepip is not available.'); exit(1)")
    assert_one_sentence(project.run("doctor", VENV=(str(broken),)), "-venv")


def test_serves_on_this_computer_only_by_default(served: Project) -> None:
    port = str(free_port())
    code, out, _ = served.run("--port", port)
    assert code == 0
    assert f"main  --host 127.0.0.1 --port {port}\n" in out


def test_listens_with_a_password_which_is_no_argument_of_the_server(
    served: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = str(free_port())
    out = served.run("--port", port, "--listen", "--password", "open sesame", "--workspace", "my work")[1]
    assert f"main open sesame --host 0.0.0.0 --port {port} --workspace my work\n" in out
    monkeypatch.setenv("PROMPTLOUPE_PASSWORD", "from outside")
    assert f"main from outside --host 0.0.0.0 --port {port}\n" in served.run("--port", port, "--listen")[1]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("sent", "code", "words"), [(signal.SIGINT, 0, "jobs that go on"), (signal.SIGTERM, 143, "")])
def test_stops_when_told_and_says_that_jobs_go_on(served: Project, sent: signal.Signals, code: int, words: str) -> None:
    process = served.start("--port", str(free_port()), "--workspace", "wait")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("main"):
        assert process.poll() is None
    time.sleep(0.1)
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)  # as the terminal does
    else:
        process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert words in out
    assert "Traceback" not in out + err


@pytest.mark.parametrize("code", [0, 1, 2, 7])
def test_commands_pass_through_with_their_exit_code(project: Project, code: int, tmp_path: Path) -> None:
    (project.root / "app" / "cli.py").write_text("import sys; print(sys.argv[1:]); sys.exit(int(sys.argv[-1]))")
    seen, out, _ = project.run("train", "--set", "n_ctx=4", "--help", str(code))
    assert seen == code
    assert str(["train", "--set", "n_ctx=4", "--help", str(code)]) in out


def test_a_folder_called_app_in_the_current_folder_is_not_taken_for_ours(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "app" / "cli.py").write_text("print('ours')")
    project.environment.prepare(set())
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "app").mkdir(parents=True)
    (elsewhere / "app" / "__init__.py").touch()
    (elsewhere / "app" / "cli.py").write_text("print('theirs')")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    assert project.run("doctor")[1].splitlines()[-1] == "ours"


def test_the_whole_suite_runs_beside_the_browser_and_tells_how_it_went(project: Project) -> None:
    (project.root / "pytest.py").write_text("import sys; print('pytest', sys.argv[1:]); sys.exit(1)")
    (project.root / "app" / "chromium.py").write_text("")
    code, out, _ = project.run("test")
    assert code == 1
    assert "'--dist', 'loadscope'" in out


def test_test_command_installs_the_extra_and_runs_pytest(project: Project) -> None:
    (project.root / "pytest.py").write_text("import sys; print('pytest', sys.argv[1:]); sys.exit(5)")
    (project.root / "app" / "chromium.py").write_text("print('browser looked for')")
    code, out, _ = project.run("test", "tests/launch", "-k", "port and taken")
    assert code == 5
    assert "browser looked for" in out
    assert str(["tests/launch", "-k", "port and taken"]) in out
    assert project.pip_calls() == ["pip", "-e .[test]"]
