"""Blind voting on the Golden noise page: two images without names, a key for each answer, then the verdict."""

from __future__ import annotations

from PIL import Image, UnidentifiedImageError

from app.components.gallery import picture_url
from app.components.html import Html, action, join, notice, tag
from app.components.words import counted
from engines.diffusion.golden.judged import Judgement
from engines.diffusion.golden.votes import Ballot, Round, Votes

KEYS = {
    "←": "The left image is better",
    "→": "The right image is better",
    "S": "No difference",
    "Z": "Take a vote back",
}
"""While voting."""
INTRO = (
    "Which image is better? You see two images of the same prompt and seed, left and right at random, and are not told"
    " which noise they began with. Votes are kept one by one; the verdict comes when you ask for it."
)


def voting(judgement: Judgement) -> Html:
    """Where the voting stands: an invitation, two images, or the verdict."""
    votes = Votes(judgement)
    found = votes.newest()
    if found is None or found.over:
        head = tag("h3", "With your own eyes")
        return tag("div", head, _outcomes(votes), tag("p", INTRO), *_starts(judgement), class_="pl-card pl-vote")
    ballot = votes.current()
    return _ballot(judgement, found, ballot) if ballot is not None else _all_done(found)


def open_round(judgement: Judgement | None) -> bool:
    """Whether somebody votes blind just now."""
    found = Votes(judgement).newest() if judgement is not None else None
    return found is not None and not found.over


def _starts(judgement: Judgement) -> list[Html]:
    *others, last = judgement.kinds[1:]
    best = action(f"Vote blind: standard or {last}", "begin", last, "primary")
    rest = (action(f"Vote blind: standard or {kind}", "begin", kind) for kind in others)
    return [tag("p", best, *rest, class_="pl-buttons")]


def _outcomes(votes: Votes) -> Html:
    """The verdicts of the rounds that are over, the newest first."""
    found = [(each, outcome) for each in votes.rounds() if (outcome := votes.outcome(each)) is not None]
    if not found:
        return Html("")
    newest, *older = [
        f"You voted {counted(outcome.pairs, 'pair')}: {outcome.verdict(each.rival)}" for each, outcome in found[::-1]
    ]
    return tag(
        "div",
        tag("p", newest, class_="pl-sentence"),
        *(tag("p", f"Round before: {said}", class_="pl-quiet") for said in older[:4]),
        class_="pl-told",
    )


def _ballot(judgement: Judgement, found: Round, ballot: Ballot) -> Html:
    place = f"{found.number}:{ballot.place}"
    sides = [("Left image", ballot.left, "left"), ("Right image", ballot.right, "right")]
    return tag(
        "div",
        tag(
            "div",
            tag("strong", f"Pair {ballot.place + 1} of {len(found.pairs)}"),
            tag("span", *_ends(found), class_="pl-buttons"),
            class_="pl-row",
        ),
        tag("p", "Prompt: ", tag("q", ballot.row.prompt)),
        tag("div", *(_side(judgement, ballot, *side, place) for side in sides), class_="pl-vote-pair"),
        tag(
            "p",
            action(join(["No difference ", tag("kbd", "S")]), "vote", f"{place}:same", data_key="s"),
            class_="pl-vote-same",
        ),
        class_="pl-vote",
    )


def _side(judgement: Judgement, ballot: Ballot, title: str, kind: str, choice: str, place: str) -> Html:
    # The image is carried in the page: the name of its file would tell what it is.
    try:
        with Image.open(judgement.picture(ballot.row.number, kind)) as image:
            seen: Html = tag("img", src=picture_url(image.convert("RGB")), alt=title)
    except (OSError, UnidentifiedImageError):
        seen = tag("span", "This image is gone from the disk.", class_="pl-quiet")
    key, arrow = ("ArrowLeft", "←") if choice == "left" else ("ArrowRight", "→")
    label = join([f"{choice.capitalize()} is better ", tag("kbd", arrow)])
    return tag(
        "figure",
        tag("span", seen, class_="pl-frame"),
        action(label, "vote", f"{place}:{choice}", data_key=key),
    )


def _ends(found: Round) -> list[Html]:
    none = not found.votes
    return [
        action(join(["Take back ", tag("kbd", "Z")]), "undo", "", "small", disabled=none, data_key="z"),
        action("End and show the verdict", "reveal", "", "small", disabled=none),
    ]


def _all_done(found: Round) -> Html:
    end = action("Show the verdict", "reveal", "", "primary")
    back = action(join(["Take the last one back ", tag("kbd", "Z")]), "undo", "", data_key="z")
    said = notice("good", f"You have voted on all {counted(len(found.votes), 'pair')}.")
    return join([said, tag("p", end, back, class_="pl-buttons")])


def answer(judgement: Judgement, name: str, value: str) -> None:
    """Does what a button of `voting` asked for; what the browser sent may be anything.

    Raises:
        ConfigError: that noise was not judged, or nothing was voted on yet.
    """
    votes = Votes(judgement)
    match name:
        case "begin":
            votes.begin(value)
        case "undo":
            votes.undo()
        case "reveal":
            votes.reveal()
        case "vote":
            round_number, place, choice, *_ = *value.split(":"), "", "", ""
            if round_number.isdecimal() and place.isdecimal():
                votes.vote(int(round_number), int(place), choice)
