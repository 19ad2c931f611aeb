"""Starting the workbench: what is refused, what the environment is, what the pages are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import app.main
from app.main import QUEUE_LOOK, build, is_loopback, launch, main, prepare_environment, wake_engine
from engines import jobs
from engines.errors import JobError
from engines.store import Workspace

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("pc7", False)]
)
def test_loopback_addresses_are_told_from_others(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_other_computers_are_let_in_with_a_password_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PROMPTLOUPE_PASSWORD", raising=False)
    assert main(["--host", "0.0.0.0", "--workspace", str(tmp_path / "ws")]) == 1
    said = capsys.readouterr().err
    assert "needs a password" in said
    assert "PROMPTLOUPE_PASSWORD" in said


def test_the_environment_keeps_gradio_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HF_HUB_OFFLINE", "PROMPTLOUPE_ONLINE", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_SHARE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("NO_PROXY", "intranet")
    prepare_environment(tmp_path)
    assert os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert Path(os.environ["GRADIO_TEMP_DIR"]).is_relative_to(tmp_path)


def test_an_idle_workbench_does_not_look_a_thousand_times_a_second(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    demo = build(workspace)
    assert 0 < demo._queue.sleep_when_free < QUEUE_LOOK  # a Gradio that names it otherwise would not hear us
    launch(demo, workspace)
    assert demo._queue.sleep_when_free == QUEUE_LOOK
    demo.close()


def test_an_engine_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise JobError("The disk is full.", "Free some space.")

    monkeypatch.setattr(jobs, "submit", fail)
    wake_engine(Workspace.open(tmp_path / "ws")).join()
    assert "The disk is full. Free some space." in capsys.readouterr().err


def test_all_pages_are_built_without_torch_and_with_one_clock_each(tmp_path: Path) -> None:
    script = (
        "import json, sys, app.main\n"
        f"demo = app.main.build({str(tmp_path / 'ws')!r})\n"
        "config = demo.get_config_file()\n"
        "heavy = [name for name in ('torch', 'open_clip', 'transformers', 'distributed') if name in sys.modules]\n"
        "pages = [list(page) for page in config['pages']]\n"
        "timers = sum(each['type'] == 'timer' for each in config['components'])\n"
        "public = [d['api_name'] for d in config['dependencies'] if d['api_visibility'] == 'public']\n"
        "print(json.dumps([heavy, pages, timers, public]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heavy, pages, timers, public = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert [title for _, title, _ in pages][1:4] == ["Data", "Label", "Train"]
    assert timers == len(pages)
    assert public == []


def test_the_module_starts_without_gradio() -> None:
    assert "gradio" not in vars(app.main)
