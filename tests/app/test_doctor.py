"""The doctor finds what is wrong, names a remedy, and keeps the user's name and folders to itself."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import devices, doctor
from app.devices import Devices
from app.doctor import Check, as_dict, collect, report
from engines.jobs.presence import EngineFile

CARD = {"name": "Card", "total": 8e9, "free": 6e9, "capability": "sm_90"}
FACTS: dict[str, Any] = {
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "cuda": "13.0",
    "mps": False,
    "architectures": ["sm_90"],
    "cards": [],
    "problem": "",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not start torch for every check of something else."""
    monkeypatch.setattr(doctor, "ask_torch", lambda: Devices(FACTS))


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_looks_at_everything_and_says_what_to_do(tmp_path: Path) -> None:
    checks = collect(tmp_path / "new")
    names = {check.name for check in checks}
    assert {"Python", "Packages", "torch", "Device", "Disk", "Workspace", "SQLite", "Port", "Proxy"} <= names
    assert all(check.remedy for check in checks if check.state != "ok")
    assert not (tmp_path / "new").exists()
    json.dumps(as_dict(checks))


def test_worst_state_is_the_state_of_all() -> None:
    ok, warn, fail = (Check("x", state, "y") for state in doctor.STATES)
    assert [as_dict(c)["state"] for c in ([], [ok], [ok, warn], [fail, warn, ok])] == ["ok", "ok", "warn", "fail"]


def test_report_names_no_user_and_no_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "dr-bloggs"
    workspace = home / "patients of ward 7"
    workspace.mkdir(parents=True)
    (workspace / "workspace.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(doctor, "find_chromium", lambda: (_ for _ in ()).throw(OSError(f"bad file {home}/chrome")))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    text = report(collect(workspace))
    assert "FAIL  Workspace: its database cannot be read" in text
    assert "bad file ~/chrome" in text
    for private in ("bloggs", "patients", str(tmp_path)):
        assert private not in text


def test_damaged_workspace_and_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "workspace.db") as connection:
        connection.execute("CREATE TABLE sample (id INTEGER)")
    assert named(collect(tmp_path), "Workspace").finding.startswith("1 tables")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    check = named(collect(tmp_path), "Workspace")
    assert (check.state, check.finding) == ("fail", "its folder cannot be written (Permission denied)")


def test_background_engine(tmp_path: Path) -> None:
    assert "not running" in named(collect(tmp_path), "Background engine").finding
    EngineFile(tmp_path).write("tcp://127.0.0.1:1", None, ["processor", "answers"], "this program")
    assert named(collect(tmp_path), "Background engine").finding == "running, for processor, answers"


def test_port_in_use_and_proxy_without_exemption(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert named(collect(), "Proxy").finding == "none"
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:8080")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        checks = collect(port=other.getsockname()[1])
    assert "in use" in named(checks, "Port").finding
    assert named(checks, "Proxy").state == "warn"
    assert "secret" not in report(checks)
    monkeypatch.setenv("NO_PROXY", "localhost, 127.0.0.1")
    assert named(collect(), "Proxy").state == "ok"


def test_missing_and_untested_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        name, version = "promptloupe", "0.1.0"
        requires = ("torch==2.14.1", "gradio>=6.31", "pydicom; extra == 'medical'")

    class Torch:
        name, version = "torch", "2.14.1+cpu"

    class OldGradio:
        name, version = "gradio", "5.0"

    monkeypatch.setattr(doctor.metadata, "distribution", lambda _: Installed)
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [Installed, Torch])
    check = named(collect(), "Packages")
    assert (check.state, "gradio (missing)" in check.finding, "torch" in check.finding) == ("fail", True, False)
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [Installed, Torch, OldGradio])
    assert "gradio 5.0 (wanted >=6.31)" in named(collect(), "Packages").finding
    Installed.requires = ("torch==2.14.1", "gradio")
    check = named(collect(), "Packages")
    assert (check.state, "gradio 5.0" in check.finding) == ("warn", True)


def test_broken_torch_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ask_torch", lambda: Devices({}, "ImportError: libcudart.so is missing"))
    check = named(collect(), "torch")
    assert (check.state, "libcudart" in check.finding, bool(check.remedy)) == ("fail", True, True)


@pytest.mark.parametrize(
    ("facts", "driver", "best", "words"),
    [
        ({}, "", "cpu", ""),
        ({"mps": True}, "", "mps", ""),
        ({"cards": [CARD]}, "Card, 580.1", "cuda", ""),
        ({"cards": [CARD | {"free": 2e8}]}, "Card, 580.1", "cuda", "nearly full"),
        ({"cards": [CARD | {"capability": "sm_50", "problem": "no kernel image"}]}, "Card", "cpu", "no kernels"),
        ({"cards": [CARD | {"problem": "unspecified launch failure"}]}, "Card", "cpu", "does not compute"),
        ({"cuda": None}, "Card, 580.1", "cpu", "without CUDA"),
        ({"problem": "The NVIDIA driver on your system is too old"}, "Card, 470.1", "cpu", "too old for CUDA 13.0"),
        ({"problem": "No CUDA GPUs are available"}, "Card, 580.1", "cpu", "No CUDA GPUs"),
        ({"cuda": None, "cards": [CARD]}, "", "cuda", ""),  # an AMD card: torch calls it cuda as well
    ],
)
def test_says_why_a_card_is_not_used(
    facts: dict[str, Any], driver: str, best: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = Devices(FACTS | facts, driver=driver)
    assert found.best == best
    reason, remedy = found.trouble()
    assert words in reason
    assert bool(reason) == bool(words) == bool(remedy)


def test_hidden_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in Devices(FACTS, driver="Card").trouble()[0]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (subprocess.TimeoutExpired("python", 180), "three minutes"),
        (OSError("cannot allocate memory"), "cannot allocate memory"),
        (subprocess.CompletedProcess([], 1, "", "Traceback\nImportError: no torch"), "ImportError: no torch"),
        (subprocess.CompletedProcess([], 0, "no json", ""), "Expecting value"),
        (subprocess.CompletedProcess([], -9, "", ""), "code -9"),
    ],
)
def test_torch_that_does_not_answer(behaviour: Any, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object, **__: object) -> Any:
        if isinstance(behaviour, Exception):
            raise behaviour
        return behaviour

    monkeypatch.setattr(devices.subprocess, "run", answer)
    found = devices.ask_torch()
    assert error in found.error
    assert found.best == "cpu"


def test_torch_answers_for_real_in_a_process_of_its_own() -> None:
    script = (
        "import sys; from app.devices import ask_torch; d = ask_torch(); print(d.error, d.best, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() in (["cpu", "False"], ["cuda", "False"], ["mps", "False"]), done.stderr
