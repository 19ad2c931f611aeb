"""What the Golden noise page says of a comparison: verdicts with their intervals, the images, a figure of prompts."""

from __future__ import annotations

from typing import Any

from app.components.figures import AMBER, BLUE, READY_MADE, Figure, figure, plain
from app.components.gallery import pager
from app.components.golden import file_url, opened
from app.components.html import Html, fold, notice, table, tag
from app.components.plot import saved_as
from app.components.wipe import Picture
from engines.diffusion.golden.judged import FACTS, STANDARD, Judgement, Row
from engines.diffusion.golden.scorers import SCORERS
from engines.diffusion.golden.statistics import by_prompt

ROWS = 12
"""Comparisons on one page."""
TITLES = {"standard": "Standard noise", "golden": "Golden noise", "NPNet": "NPNet"}
COLOURS = {"standard": READY_MADE, "golden": AMBER, "NPNet": BLUE}
FACT_TITLES = {
    "mean": "mean",
    "std": "standard deviation",
    "kurtosis": "kurtosis (0: Gaussian)",
    "cosine": "likeness to the standard noise (cosine)",
}
HIDDEN = "The images with their names, and the verdict of the scores, are hidden while you vote blind."


def scorer_title(name: str) -> str:
    return SCORERS[name].title if name in SCORERS else name


def verdict(judgement: Judgement) -> Html:
    """The verdicts in words, the fairest score first; numbers folded."""
    lines = []
    names = [*judgement.scorers]
    for name in [*names[1:], *names[:1]]:
        for kind in judgement.kinds[1:]:
            found = judgement.comparison(name, kind)
            if found is not None:
                of = "" if found.decided else f", {TITLES[kind]}"
                lines.append(f"{scorer_title(name)}{of}: {found.verdict(kind)}")
    if not lines:
        return tag("p", "The first images are being made …", class_="pl-quiet")
    done = len(judgement.rows())
    so_far = (
        [f"{done} of {judgement.total} comparisons are done; this may still change."] if done < judgement.total else []
    )
    first, *more = lines
    return tag(
        "div",
        tag("h3", "By the scores"),
        tag("p", first, class_="pl-sentence"),
        *(tag("p", line) for line in more),
        *(tag("p", line, class_="pl-quiet") for line in [*so_far, *_cautions(judgement)]),
        fold("The numbers", _numbers(judgement), _noise(judgement)),
        class_="pl-told",
    )


def _cautions(judgement: Judgement) -> list[str]:
    chose = scorer_title(next(iter(judgement.scorers)))
    found = [
        f"“{chose}” also chose the pairs that NPNet learnt from, so it flatters: trust other scores, and your eyes."
    ]
    if not judgement.new_prompts:
        found.append("NPNet learnt from some of these prompts. Judge with others for a fair answer.")
    return found


def _numbers(judgement: Judgement) -> Html:
    meant = (
        "p: probability of differences so uneven if both were equally good (Wilcoxon's signed-rank test). Effect: mean"
        " difference over its standard deviation (Cohen's d); 0.2 is small, 0.8 large."
    )
    rows = []
    for name in judgement.scorers:
        for kind in judgement.kinds[1:]:
            found = judgement.comparison(name, kind)
            if found is None:
                continue
            means = [judgement.mean_score(name, each) for each in (STANDARD, kind)]
            rows.append(
                [
                    scorer_title(name),
                    TITLES[kind],
                    f"{found.wins}, {found.losses}, {found.ties}",
                    *(_number(mean) for mean in means),
                    f"{found.mean_gain:+.3f}",
                    f"{found.p_wilcoxon:.2f}",
                    f"{found.effect:+.2f}",
                ]
            )
    heads = ["judged by", "noise", "won, lost, equal>", "standard>", "this noise>", "difference>"]
    return tag("div", table([*heads, "p>", "effect>"], rows), tag("p", meant, class_="pl-quiet"))


def _noise(judgement: Judgement) -> Html:
    rows = [[TITLES[kind], *(_number(judgement.mean_fact(fact, kind)) for fact in FACTS)] for kind in judgement.kinds]
    return table(["mean over noises", *(f"{FACT_TITLES[fact]}>" for fact in FACTS)], rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def scatter(judgement: Judgement, scorer: str) -> Figure | None:
    """A point per prompt: mean score with standard noise, and with the others; above the line is better."""
    data: list[dict[str, Any]] = []
    rows: list[list[Any]] = []
    for kind in judgement.kinds[1:]:
        points = by_prompt(*judgement.scored(scorer, kind))
        rows += [[kind, point.prompt, point.standard, point.golden, point.pairs] for point in points]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": TITLES[kind],
                "x": [point.standard for point in points],
                "y": [point.golden for point in points],
                "text": [plain(point.prompt, 80) for point in points],
                "marker": {"color": COLOURS[kind], "size": 9, "opacity": 0.75, "symbol": "circle"},
                "hovertemplate": "%{text}<br>standard %{x:.3f}, this noise %{y:.3f}<extra></extra>",
            }
        )
    values = [value for row in rows for value in row[2:4]]
    if not values:
        return None
    room = 0.06 * (max(values) - min(values)) or 0.1
    span = [min(values) - room, max(values) + room]
    line = {"type": "line", "x0": span[0], "x1": span[1], "y0": span[0], "y1": span[1], "layer": "below"}
    drawn = figure(
        data,
        f"Prompt by prompt, by {scorer_title(scorer)}: above the line is better",
        xaxis={"title": {"text": "standard noise"}, "range": span},
        yaxis={"title": {"text": "golden noise, NPNet"}, "range": span},
        shapes=[line | {"line": {"color": READY_MADE, "dash": "dash", "width": 1.5}}],
        hovermode="closest",
        showlegend=True,
        height=420,
    )
    return saved_as(drawn, "golden-prompts", ["noise", "prompt", "standard", "this noise", "pairs"], rows)


def images(judgement: Judgement, first: int, chosen: int | None, rival: str) -> Html:
    """The images of each prompt and seed beside each other; one pair of them large under a divider."""
    rows = judgement.rows()
    if not rows:
        return Html("")
    first = max(0, min(first, (len(rows) - 1) // ROWS * ROWS))
    page = rows[first : first + ROWS]
    large = next((row for row in rows if row.number == chosen), None)
    hint = tag("p", "Press a row to lay two of its images over each other.", class_="pl-quiet")
    heads = tag("div", *(tag("strong", TITLES[kind]) for kind in judgement.kinds), class_="pl-golden-heads")
    return tag(
        "div",
        pager(first, len(page), len(rows), ROWS, keys=False) if len(rows) > ROWS else "",
        _large(judgement, large, rival) if large else hint,
        tag("div", *(_row(judgement, row, heads, row is large) for row in page), class_="pl-golden-rows"),
        class_="pl-stack",
    )


def _row(judgement: Judgement, row: Row, heads: Html, selected: bool) -> Html:
    shown = [_image(judgement, row, kind) for kind in judgement.kinds]
    prompt = row.prompt if len(row.prompt) <= 90 else f"{row.prompt[:89]}…"
    return tag(
        "button",
        heads,
        tag("span", *shown, class_="pl-golden-three"),
        tag("span", prompt, class_="pl-caption"),
        type="button",
        data_action="open",
        data_value=row.number,
        aria_pressed=str(selected).lower(),
        title=row.prompt,
    )


def _image(judgement: Judgement, row: Row, kind: str) -> Html:
    path = judgement.picture(row.number, kind)
    if not path.is_file():
        return tag("span", "no image: the model answered with NaN", class_="pl-quiet")
    return tag("img", src=file_url(path), alt=f"{TITLES[kind]}: {row.prompt}", loading="lazy")


def _large(judgement: Judgement, row: Row, rival: str) -> Html:
    sides = [Picture(TITLES[kind], file_url(judgement.picture(row.number, kind))) for kind in (STANDARD, rival)]
    scores = [
        (f"{scorer_title(name)}, {TITLES[kind]}", _number(found.get(kind)))
        for name, found in row.scores.items()
        for kind in (STANDARD, rival)
    ]
    noise = row.noise.get(rival, {})
    facts = [(f"Noise, {FACT_TITLES[fact]}", _number(noise.get(fact))) for fact in FACTS]
    return opened("Same seed, other noise", sides, [("Prompt", row.prompt), ("Seed", row.seed), *scores, *facts])


def hidden() -> Html:
    return notice("info", HIDDEN, "They come back when you let the verdict be shown.")
