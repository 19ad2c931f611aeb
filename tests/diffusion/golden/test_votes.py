"""Blind votes: what is shown and kept of them, double presses, taking back, rounds, and what comes out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from engines.diffusion.golden.files import add_line, save_whole
from engines.diffusion.golden.judged import Judgement, about
from engines.diffusion.golden.votes import Votes
from engines.errors import ConfigError


def judged(folder: Path, count: int, without: int = -1) -> Judgement:
    """A judgement of made-up images; that of number `without` could not be made from golden noise."""
    judgement = Judgement(folder, ["standard", "golden", "NPNet"], {"clip": "CLIP"}, count, True, "")
    save_whole(folder / "about.json", about(judgement))
    for number in range(count):
        for kind in judgement.kinds:
            if (number, kind) != (without, "golden"):
                path = judgement.picture(number, kind)
                path.parent.mkdir(exist_ok=True)
                Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        scores = {"clip": dict.fromkeys(judgement.kinds, 0.5)}
        row = {"number": number, "prompt": f"prompt {number}", "seed": number, "scores": scores, "noise": {}}
        add_line(folder / "judged.jsonl", row)
    return judgement


def test_a_round_from_the_first_vote_to_the_verdict(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 10))
    assert votes.current() is None
    found = votes.begin("golden")
    for place in range(10):
        ballot = votes.current()
        assert ballot is not None
        assert {ballot.left, ballot.right} == {"standard", "golden"}
        choice = "same" if place == 0 else "left" if ballot.left == "golden" else "right"
        assert votes.outcome(votes.rounds()[-1]) is None, "nothing may be told before the end"
        assert votes.vote(found.number, ballot.place, choice)
    assert votes.current() is None
    votes.reveal()
    outcome = votes.outcome(votes.rounds()[-1])
    assert outcome is not None
    assert (outcome.wins, outcome.losses, outcome.ties) == (9, 0, 1)
    assert outcome.verdict() == "golden won 9 of 9 pairs (1 more was tied), 95% interval 66–100%: it helps."


def test_sides_and_order_are_drawn_anew_each_round(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 60))
    seen = []
    for _ in range(2):
        found = votes.begin("golden")
        seen.append([(ballot.row.number, ballot.left) for ballot in votes.ballots(found)])
        votes.vote(found.number, 0, "left")
        votes.reveal()
    assert sorted(number for number, _ in seen[0]) == list(range(60))
    assert seen[0] != seen[1]
    sides = Counter(left for each in seen for _, left in each)
    assert min(sides["standard"], sides["golden"]) > 30  # of 120; p < 1e-8 by chance


def test_a_key_pressed_twice_votes_once(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 3))
    number = votes.begin("golden").number
    assert votes.vote(number, 0, "left")
    assert not votes.vote(number, 0, "left")
    assert not votes.vote(number + 1, 1, "left")
    assert not votes.vote(number, 1, "up")
    assert votes.rounds()[-1].votes == ["left"]


def test_votes_are_taken_back_and_stay_in_the_log(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 3))
    number = votes.begin("golden").number
    votes.undo()
    votes.vote(number, 0, "left")
    votes.undo()
    votes.vote(number, 0, "right")
    assert votes.rounds()[-1].votes == ["right"]
    events = [json.loads(line)["event"] for line in votes.file.read_text("utf-8").splitlines()]
    assert events == ["begin", "vote", "undo", "vote"]


def test_a_torn_line_costs_one_vote_only(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 3))
    number = votes.begin("golden").number
    votes.vote(number, 0, "left")
    with votes.file.open("ab") as file:
        file.write(b'{"event": "vote", "choi')
    assert votes.rounds()[-1].votes == ["left"]
    assert votes.vote(number, 1, "right")
    assert Votes(votes.judgement).rounds()[-1].votes == ["left", "right"]


def test_images_that_could_not_be_made_are_not_voted_on(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 4, without=2))
    assert sorted(number for number, _ in votes.begin("golden").pairs) == [0, 1, 3]


def test_pairs_judged_meanwhile_leave_an_open_round_alone(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path, 2))
    before = votes.begin("golden").pairs
    judged(tmp_path, 9)
    assert votes.begin("NPNet").pairs == before, "the open round goes on"


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    votes = Votes(judged(tmp_path / "some", 1))
    with pytest.raises(ConfigError, match="No images of the noise “silver”"):
        votes.begin("silver")
    with pytest.raises(ConfigError, match="There is no vote yet"):
        votes.reveal()
    with pytest.raises(ConfigError, match="no images to vote on"):
        Votes(judged(tmp_path / "none", 0)).begin("golden")
