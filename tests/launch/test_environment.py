"""launch.py's environment: made once, checked at each start, mended where it is broken, never lost to a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import namedtuple

import pytest

from tests.launch.project import Project

OFFLINE = (
    "Collecting thing",
    "WARNING: Retrying after connection broken by 'NewConnectionError(...): Failed to establish a new connection'",
    "ERROR: No matching distribution found for thing",
)


def states(project: Project) -> tuple[str, list[str]]:
    stamp = project.environment.stamp()
    return stamp.get("state", ""), stamp.get("extras", [])


def test_first_start_installs_and_second_does_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.environment.prepare(set())
    assert project.pip_calls() == ["pip", "-e ."]
    assert states(project) == ("ready", [])
    told = capsys.readouterr().out
    assert [told.count(f"[{step}/4]") for step in (1, 2, 3, 4)] == [1, 1, 1, 1]
    project.environment.prepare(set())
    assert project.pip_calls() == []
    assert capsys.readouterr().out == ""


def test_interrupted_installation_is_done_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.plan_pip("Installing collected packages: thing", code=1)
    with pytest.raises(project.module.LaunchError):
        project.environment.prepare({"test"})
    assert states(project) == ("making", ["test"])
    debris = project.environment.folder / "half.txt"
    debris.touch()
    project.plan_pip("Installing collected packages: thing")
    project.environment.prepare(set())
    assert states(project) == ("ready", ["test"])
    assert not debris.exists()
    assert "not finished" in capsys.readouterr().out


def test_failed_smoke_test_is_no_ready_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.module, "SMOKE_TEST", "raise ImportError('libgomp is missing')")
    with pytest.raises(project.module.LaunchError, match="libgomp is missing"):
        project.environment.prepare(set())
    assert project.environment.diagnose(set())[0] == "make"


def test_failed_download_leaves_the_environment_as_it_was(project: Project) -> None:
    project.environment.prepare(set())
    (project.root / "constraints.txt").write_text("thing==2.0\n")
    before = project.environment.stamp()
    project.plan_pip(*OFFLINE, code=1)
    with pytest.raises(project.module.LaunchError, match=r"internet.*start again"):
        project.environment.prepare(set())
    assert project.environment.stamp() == before
    assert project.environment.probe()[2] == []


def test_failed_reinstallation_puts_the_old_environment_back(project: Project) -> None:
    project.environment.prepare({"test"})
    kept = project.environment.folder / "kept.txt"
    kept.touch()
    project.plan_pip(*OFFLINE, code=1)
    with pytest.raises(project.module.LaunchError):
        project.environment.prepare(set(), reinstall=True)
    assert kept.exists()
    assert project.environment.diagnose({"test"}) == ("", "")
    project.plan_pip("Installing collected packages: thing")
    project.environment.prepare(set(), reinstall=True)
    assert not kept.exists()
    assert states(project) == ("ready", ["test"])
    assert not (project.root / ".venv.old").exists()


@pytest.mark.parametrize("damage", ["interpreter", "package", "record", "module"])
def test_damage_is_noticed_and_mended(project: Project, damage: str) -> None:
    environment = project.environment
    environment.prepare(set())
    site = next(environment.folder.rglob("thing.py")).parent
    if damage == "interpreter":
        environment.python.unlink()
        environment.python.symlink_to(project.root / "a Python that was removed")
    elif damage == "package":
        shutil.rmtree(site / "thing-1.0.dist-info")
    elif damage == "record":
        (site / "thing-1.0.dist-info" / "RECORD").unlink()
    else:
        (site / "thing.py").unlink()
    assert environment.diagnose(set())[0] == "make"
    environment.prepare(set())
    assert environment.diagnose(set()) == ("", "")


def test_an_environment_made_by_hand_is_filled_up_and_not_deleted(project: Project) -> None:
    environment = project.environment
    environment.prepare(set())
    (environment.folder / "promptloupe.json").unlink()
    (environment.folder / "mine.txt").touch()
    environment.prepare(set())
    assert (environment.folder / "mine.txt").exists()
    assert states(project) == ("ready", [])


def test_only_what_decides_the_installation_causes_one(project: Project) -> None:
    environment = project.environment
    environment.prepare(set())
    file = project.root / "pyproject.toml"
    file.write_text(file.read_text() + "\n[tool.ruff]\nline-length = 100\n")
    assert environment.diagnose(set()) == ("", "")
    file.write_text(file.read_text().replace("thing==1.0", "thing==1.1"))
    assert environment.diagnose(set())[0] == "update"


def test_a_moved_folder_is_noticed(project: Project) -> None:
    project.environment.prepare(set())
    moved = project.root.rename(project.root.with_name("moved"))
    assert project.module.Environment(moved).diagnose(set())[0] == "update"


def test_extras_are_added_once_and_kept(project: Project) -> None:
    environment = project.environment
    environment.prepare(set())
    project.pip_calls()
    environment.prepare({"test"})
    assert project.pip_calls() == ["pip", "-e .[test]"]
    environment.prepare({"medical"})
    assert project.pip_calls() == ["pip", "-e .[medical,test]"]
    environment.prepare({"test"})
    environment.prepare(set())
    assert project.pip_calls() == []


def test_no_disk_space_is_said_before_anything_is_made(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 0, 3 * 10**9)
    monkeypatch.setattr(project.module.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(project.module, "DISK_GB", 11)
    with pytest.raises(project.module.LaunchError, match=r"11 GB.*only 3\.0 GB"):
        project.environment.prepare(set())
    assert not project.environment.folder.exists()
    assert project.pip_calls() == []


def test_two_launches_never_install_at_once(project: Project) -> None:
    with (
        project.module.only_one(project.root / ".venv.lock"),
        pytest.raises(project.module.LaunchError, match="Another"),
    ):
        project.environment.prepare(set())
    project.environment.prepare(set())
    assert states(project) == ("ready", [])


@pytest.mark.skipif(os.name == "nt", reason="a lock of POSIX is inherited")
def test_nothing_is_installed_beside_the_pip_of_a_launch_that_was_killed(project: Project) -> None:
    hold = project.root / "hold.txt"
    hold.touch()
    killed = project.start("doctor")
    while not (project.root / "calls.txt").is_file():
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    with pytest.raises(project.module.LaunchError, match="Another"):
        project.environment.prepare(set())
    hold.unlink()
    deadline = time.monotonic() + 20
    while states(project)[0] != "ready":
        with contextlib.suppress(project.module.LaunchError):
            project.environment.prepare(set())
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: [WinError 112] There is not enough space on the disk", "disk is full"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", "PIP_CERT"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407'))", "HTTPS_PROXY"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'", "may not write"),
        ("[Errno 30] Read-only file system: '.venv'", "may not write"),
        ("NameResolutionError: Temporary failure in name resolution\nERROR: No matching distribution", "internet"),
        ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "internet"),
        ("ConnectionResetError(104, 'Connection reset by peer')", "internet"),
        ("ERROR: No matching distribution found for torch==2.14.1", "does not exist for this computer"),
        ("Collecting x\nERROR: Something else went wrong", "could not be installed: Something else went wrong."),
        ("", "no reason was given"),
    ],
)
def test_each_failure_of_pip_has_its_sentence(project: Project, said: str, sentence: str) -> None:
    assert sentence in project.module.explain(said)
    assert "\n" not in project.module.explain(said)


def test_progress_says_what_is_fetched_and_how_much_is_unpacked(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = project.module.Progress(project.root)
    shown = []
    for line in (
        "Collecting torch==2.14.1",
        "  Downloading torch-2.14.1-cp311-cp311-linux_x86_64.whl.metadata (12 kB)",
        "Processing ./local.whl",
        "  Downloading torch-2.14.1-cp311-cp311-linux_x86_64.whl (530.6 MB)",
        "Progress 100 of 400",
        "Progress 300 of 400",
        "Installing collected packages: torch, numpy",
    ):
        progress.read(line)
        shown.append(progress.text)
    progress.close()
    assert shown[1] == "looking up packages, 1 so far"
    assert shown[2] == "looking up packages, 2 so far"
    assert shown[3:6] == [f"downloading torch (530.6 MB){part}" for part in ("", " 25%", " 75%")]
    assert shown[6] == "unpacking 2 package(s)"
    assert "downloading torch (530.6 MB)" in capsys.readouterr().out
