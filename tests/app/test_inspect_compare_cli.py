"""promptloupe inspect agreement and calibration: tables for people, JSON for machines, mistakes in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engines.store.agreement import READY_MADE
from tests.app.made_up import add_run, make_workspace

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """A workspace with two runs: one wrong on image 0, the other right everywhere."""
    workspace = make_workspace(tmp_path / "clinic")
    found = [add_run(workspace, wrong={0: 1}, experiment="a"), add_run(workspace, "maple", experiment="b")]
    workspace.close()
    return found


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promptloupe: Say) -> Say:
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(tmp_path / "clinic"))
    return partial(promptloupe, "inspect")


def test_agreement_for_machines(runs: list[str], say: Say) -> None:
    code, out, _ = say("agreement", *runs, "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["run"] for each in found["runs"]] == [READY_MADE, *runs]
    pair = found["pairs"][0]
    assert (pair["first"], pair["second"]) == (READY_MADE, runs[0])
    assert (pair["first_only"], pair["second_only"], pair["images"]) == (1, 10, 20)
    assert pair["p_value"] == pytest.approx(24 / 2048)  # 2 (1 + 11) / 2^11
    assert pair["difference"]["value"] == pytest.approx(0.45)
    assert found["alike"][1][2] == pytest.approx(0.95)
    assert len(found["matrix"]["said"]) == 3


def test_agreement_for_people(runs: list[str], say: Say) -> None:
    code, out, _ = say("agreement", *runs)
    assert code == 0
    assert "0.012" in out
    assert "20 images; they differ on 11." in out


def test_calibration(runs: list[str], say: Say) -> None:
    code, out, _ = say("calibration", runs[0], "--json")
    (found,) = json.loads(out)
    assert code == 0
    assert found["run"] == runs[0]
    assert found["change"]["value"] == pytest.approx(found["after"]["ece"]["value"] - found["before"]["ece"]["value"])
    code, out, _ = say("calibration", *runs)
    assert code == 0
    assert out.count("coop on") == out.count("maple on") == 1  # names may go over two lines


@pytest.mark.parametrize("command", ["agreement", "calibration"])
def test_a_run_that_is_not_there(runs: list[str], say: Say, command: str) -> None:
    code, _, err = say(command, "gone")
    assert code != 0
    assert "There is no run “gone”." in " ".join(err.split())
