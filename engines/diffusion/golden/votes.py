"""Blind votes on pairs of images: which is better, without knowing which noise it is of. Torch-free.

The log only grows. A round begins with the pairs in a random order and, at random, which image of each stands on the
left; it ends when the votes are revealed. Nothing is told of a round before that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from filelock import FileLock

from engines.diffusion.golden.files import add_line, read_lines
from engines.diffusion.golden.judged import STANDARD, Judgement, Row
from engines.diffusion.golden.statistics import Comparison, compare
from engines.errors import ConfigError
from engines.store import now

Choice = Literal["left", "right", "same"]
CHOICES: tuple[Choice, ...] = ("left", "right", "same")


@dataclass(frozen=True, slots=True)
class Ballot:
    """One pair of images to vote on."""

    place: int
    """In the round, the first being 0."""
    row: Row
    left: str
    right: str
    """Kinds of noise; not to be shown before the round is over."""


@dataclass(slots=True)
class Round:
    """One blind reading of the pairs."""

    number: int
    rival: str
    """The kind of noise that is compared with the standard one."""
    pairs: list[tuple[int, bool]]
    """Numbers of the judged rows in the order of voting, and whether the rival stands on the left."""
    votes: list[Choice] = field(default_factory=list)
    """On the pairs of its order, from the first on."""
    over: bool = False


class Votes:
    """The votes on one judgement."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.file: Path = judgement.folder / "votes.jsonl"

    def rounds(self) -> list[Round]:
        """All rounds, the newest last."""
        found: list[Round] = []
        for line in read_lines(self.file):
            match line:
                case {"event": "begin", "rival": str(rival), "pairs": list(pairs)}:
                    found.append(Round(len(found), rival, [(int(number), bool(left)) for number, left in pairs]))
                case {"event": "vote", "choice": choice} if found and choice in CHOICES:
                    found[-1].votes.append(cast(Choice, choice))
                case {"event": "undo"} if found and found[-1].votes:
                    found[-1].votes.pop()
                case {"event": "reveal"} if found:
                    found[-1].over = True
        return found

    def newest(self) -> Round | None:
        rounds = self.rounds()
        return rounds[-1] if rounds else None

    def begin(self, rival: str) -> Round:
        """A new round, unless the newest one is still open.

        Raises:
            ConfigError: that noise was not judged.
        """
        if rival not in self.judgement.kinds or rival == STANDARD:
            raise ConfigError(f"No images of the noise “{rival}” were made.", "Judge it first.")
        with self._alone():
            newest = self.newest()
            if newest is None or newest.over:
                chance = random.SystemRandom()
                kept = [row.number for row in self.judgement.rows() if self._has_both(row.number, rival)]
                if not kept:
                    raise ConfigError("There are no images to vote on yet.", "Wait until some are judged.")
                pairs = [(number, chance.random() < 0.5) for number in chance.sample(kept, len(kept))]
                self._add({"event": "begin", "rival": rival, "pairs": pairs})
        return self.rounds()[-1]

    def ballots(self, found: Round) -> list[Ballot]:
        """The pairs of a round in its order."""
        rows = {row.number: row for row in self.judgement.rows()}
        both = (STANDARD, found.rival)
        return [
            Ballot(place, rows[number], *(reversed(both) if swapped else both))
            for place, (number, swapped) in enumerate(found.pairs)
        ]

    def current(self) -> Ballot | None:
        """The pair to vote on now; None where no round is open, or all pairs were voted on."""
        found = self.newest()
        if found is None or found.over:
            return None
        ballots = self.ballots(found)
        return ballots[len(found.votes)] if len(found.votes) < len(ballots) else None

    def vote(self, round_number: int, place: int, choice: str) -> bool:
        """Adds a vote; False where another pair stands there by now (a key that was pressed twice)."""
        if choice not in CHOICES:
            return False
        with self._alone():
            found, ballot = self.newest(), self.current()
            if found is None or ballot is None or (found.number, ballot.place) != (round_number, place):
                return False
            row = ballot.row
            sides = {"left": ballot.left, "right": ballot.right}
            self._add({"event": "vote", "choice": choice, "prompt": row.prompt, "seed": row.seed, **sides})
        return True

    def undo(self) -> None:
        """Takes the last vote of the open round back; it stays in the log."""
        with self._alone():
            found = self.newest()
            if found is not None and not found.over and found.votes:
                self._add({"event": "undo"})

    def reveal(self) -> None:
        """Ends the open round.

        Raises:
            ConfigError: nothing was voted on yet.
        """
        with self._alone():
            found = self.newest()
            if found is None or not found.votes:
                raise ConfigError("There is no vote yet.", "Vote on at least one pair.")
            if not found.over:
                self._add({"event": "reveal"})

    def outcome(self, found: Round) -> Comparison | None:
        """How often the rival won; None while the round is open."""
        if not found.over or not found.votes:
            return None
        gains = []
        for ballot, choice in zip(self.ballots(found), found.votes, strict=False):
            chosen = {"left": ballot.left, "right": ballot.right}.get(choice)
            gains.append(0.0 if chosen is None else 1.0 if chosen == found.rival else -1.0)
        return compare([0.0] * len(gains), gains)

    def _has_both(self, number: int, rival: str) -> bool:
        return all(self.judgement.picture(number, kind).is_file() for kind in (STANDARD, rival))

    def _add(self, event: dict[str, Any]) -> None:
        add_line(self.file, event | {"at": now().isoformat()})

    def _alone(self) -> FileLock:
        """Two windows must not vote on one pair."""
        return FileLock(self.judgement.folder / "votes.lock", timeout=10)
