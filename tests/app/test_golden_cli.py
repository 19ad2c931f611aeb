"""promptloupe golden: from prompts to a verdict on the command line, for people and machines; a worker is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from engines import jobs
from engines.diffusion.golden.pairs import PairStore
from engines.diffusion.golden.settings import CollectSettings
from engines.diffusion.golden.study import StudyRequest, create
from engines.jobs.presence import EngineFile
from engines.store import Job, JobState, Workspace
from tests.diffusion.tiny import tiny_pipeline

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Path]]:
    """A workspace, and a models folder with a random model in it."""
    folder = tmp_path_factory.mktemp("golden")
    tiny_pipeline("sd1").save_pretrained(folder / "models" / "tiny")
    workspace = Workspace.open(folder / "clinic")
    yield workspace, folder / "models"
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture
def say(places: tuple[Workspace, Path], monkeypatch: pytest.MonkeyPatch, promptloupe: Say) -> Say:
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(places[0].path))
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(places[1]))
    return partial(promptloupe, "golden")


def collected(say: Say, name: str, *more: str) -> dict[str, object]:
    given = ["--samples", "4", "--each", "2", "--steps", "2", "--model", "tiny", "--scorer", "scenes", "--name", name]
    code, out, err = say("collect", *given, "--json", *more)
    assert code == 0, err
    return dict(json.loads(out))


def test_from_prompts_to_a_verdict(say: Say, tmp_path: Path) -> None:
    made = collected(say, "Mini world")
    assert made["pairs"] == 8
    assert made["notes"] == []
    code, out, _ = say("train", "Mini world", "--epochs", "2", "--all-pairs", "--held-out", "0.5", "--json")
    trained = json.loads(out)
    assert (code, trained["passes"], len(trained["held_out"])) == (0, 2, 2)
    assert trained["error"] == min(trained["held_out"])
    code, out, _ = say("judge", "Mini world", "--json")
    judged = json.loads(out)
    assert (code, judged["judged"], judged["new_prompts"]) == (0, 2, True)
    assert [row["noise"] for row in judged["comparisons"]] == ["golden", "NPNet"] * 2
    assert all(row["wins"] + row["losses"] + row["ties"] == 2 for row in judged["comparisons"])
    given = ["--prompt", "a red star", "--prompt", "a blue ring", "--out", str(tmp_path / "images"), "--json"]
    code, out, _ = say("use", "Mini world", *given)
    used = json.loads(out)
    assert [each["prompt"] for each in used["images"]] == ["a red star", "a blue ring"]
    assert (tmp_path / "images" / used["images"][1]["images"]["NPNet"]).is_file()
    code, out, _ = say("export", "Mini world", "--json")
    assert Path(json.loads(out)["path"]).is_file()
    code, out, _ = say("list")
    assert "Mini world" in out
    assert "trained" in out


def test_what_cannot_be_done_is_said(say: Say, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for arguments, message in (
        (["collect", "--model", "tiny"], "There is no prompt"),
        (["collect", "--prompt", "x", "--model", "none"], "There is no text-to-image model “none”"),
        (["collect", "--prompts", str(tmp_path / "latin.txt"), "--model", "tiny"], "no text in UTF-8"),
        (["judge", "nobody"], "There is no collection “nobody”"),
        (["use", "nobody", "--prompt", "x"], "There is no collection “nobody”"),
        (["collect", "--prompt", "a cat", "--model", "tiny", "--scorer", "scenes"], "The check by rules knows only"),
    ):
        code, _, err = say(*arguments)
        assert code == 1
        assert message in err.replace("\n", " ")


def test_a_killed_worker_leaves_no_torn_shard_and_another_goes_on(places: tuple[Workspace, Path]) -> None:
    ws, models = places
    settings = CollectSettings(steps=8, each=12, batch=2)
    prompts = "a red circle\na blue star on grass"
    study = create(ws, StudyRequest(model=str(models / "tiny"), prompts=prompts, scorer="scenes", settings=settings))
    torn = study.picture("0123", "golden").with_name(".0123-golden.png.4567.part")  # of a kill before this one
    torn.parent.mkdir()
    torn.write_bytes(b"PNG")
    job_id = jobs.submit(ws, "golden-collect", {"study": study.id})
    _until(lambda: len(study.shown()) > 2)
    engine = EngineFile(ws.path).read()
    assert engine is not None
    with ws.session() as session:
        worker = psutil.Process(int(session.get_one(Job, job_id).worker.removeprefix("process ")))
    worker.kill()
    _until(lambda: _job(ws, job_id).state.ended)
    job = _job(ws, job_id)
    assert (job.state, job.attempt) == (JobState.DONE, 2)
    assert len(study.shown()) == 24
    assert not list(study.folder.rglob("*.part"))
    with PairStore(study.pairs) as store:
        assert store.notes == []
        assert {(pair.prompt, pair.seed) for pair in store.pairs} == {
            (each.prompt, each.seed) for each in study.shown()
        }


def _job(ws: Workspace, job_id: str) -> Job:
    with ws.session() as session:
        return session.get_one(Job, job_id)


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
