"""`promptloupe report` and `promptloupe reproduce`, as a person and as a program use them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.printing import print_pdf
from engines import jobs
from engines.errors import ConfigError
from engines.runs.export import export_prompt
from engines.store import Run, Workspace
from tests.reports.trained import trained_workspace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = trained_workspace(tmp_path_factory.mktemp("report"))
    yield workspace
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture(scope="module")
def call(trained: Workspace) -> Call:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments, "--workspace", str(trained.path)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            timeout=300,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


def run_of(workspace: Workspace, method: str) -> str:
    with workspace.session() as session:
        return str(session.query(Run).filter_by(method=method, seed=1).first().id)  # type: ignore[union-attr]


def test_a_report_is_written_where_it_was_wanted(call: Call, trained: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "report.html"
    done = call("report", run_of(trained, "coop"), "--out", str(target), "--title", "For Tuesday", "--json")
    assert json.loads(done.stdout) == {"path": str(target)}
    assert "<h1>For Tuesday</h1>" in target.read_text("utf-8")


def test_wrong_usage_is_told(call: Call) -> None:
    assert "Say what to report on" in call("report", code=1).stderr
    assert "There is no result" in call("report", "nobody", code=1).stderr
    assert "Nobody has read any image" in call("report", "--labelling", "1", code=1).stderr


def test_a_report_is_printed(call: Call, trained: Workspace, chromium_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    done = call("report", run_of(trained, "linear-probe"), "--out", str(target), "--pdf", "--json")
    pdf = Path(json.loads(done.stdout)["pdf"])
    assert pdf == target.with_suffix(".pdf")
    assert pdf.read_bytes().startswith(b"%PDF")


def test_without_a_browser_it_says_how_to_print(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("app.printing.find_chromium", lambda: None)
    with pytest.raises(ConfigError, match="no Chromium") as error:
        print_pdf(tmp_path / "report.html", tmp_path / "report.pdf")
    assert "choose Print" in error.value.remedy


def test_reproducing_tells_by_its_exit_code(call: Call, trained: Workspace, tmp_path: Path) -> None:
    exported = export_prompt(trained, run_of(trained, "tip-adapter"))
    found = json.loads(call("reproduce", str(exported), "--json").stdout)
    assert found["same"] == "exactly"
    assert found["differences"] == []
    assert "The same came out, exactly" in call("reproduce", str(exported)).stdout
    shutil.unpack_archive(exported, tmp_path / "prompt")
    _claim_more(tmp_path / "prompt")
    told = call("reproduce", str(tmp_path / "prompt"), code=1)
    assert "Something else came out: 1 of" in told.stdout
    assert "accuracy" in told.stdout
    (tmp_path / "prompt" / "prompt.safetensors").unlink()
    assert "prompt.safetensors is missing" in call("reproduce", str(tmp_path / "prompt"), code=1).stderr


def _claim_more(folder: Path) -> None:
    """Write another accuracy into a recipe, with the checksum that fits it."""
    from engines.runs.recipe import Recipe

    found = Recipe.model_validate_json((folder / "run.json").read_bytes())
    claimed = found.results | {"accuracy": 0.0 if found.results["accuracy"] > 0.5 else 1.0}
    sealed = found.model_copy(update={"results": claimed}).sealed()
    (folder / "run.json").write_text(sealed.model_dump_json())
