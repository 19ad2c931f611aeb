"""How sure results are, and what their prompts say: what the folded part of a comparison shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components.compare import Compared
from app.components.compare_figures import heat
from app.components.figures import DASHES, READY_MADE, Figure, figure, plain
from app.components.html import Html, action, fold, join, notice, table, tag, term
from app.components.results import calibration_sentence
from app.components.words import counted, percent
from engines.inspection.answers import Answers
from engines.inspection.calibration import Calibration, calibration
from engines.inspection.words_answers import ContextToken, WordsAnswer, read_words
from engines.store import Workspace

RESAMPLES = 300
MOST_CLASSES = 30
"""Classes of a matrix that is drawn; larger ones cannot be read."""
MOST_TOKENS = 64
ECE = term(
    "off by (expected calibration error)",
    "Mean distance between how sure it is and how often it is right, over 15 equally wide bins (Guo et al. 2017).",
)
MASS = term("equal-mass", "The same over 15 bins with equally many images (Nixon et al. 2019).")
GAP = term("modality gap", "Distance between the middle of all images and the middle of all words (Liang et al. 2022).")
ALIGNMENT = term(
    "alignment", "Mean squared distance between an image and the words of its class; small is good (Wang, Isola 2020)."
)
SPREAD = term("uniformity", "How evenly points spread over the sphere; more negative is more even (Wang, Isola 2020).")


# --- how sure they are --------------------------------------------------------


def calibrated(found: Sequence[Compared], rows: Sequence[Answers]) -> list[tuple[Compared, Calibration]]:
    """Results whose probabilities are known."""
    both = [(each, calibration(row, RESAMPLES)) for each, row in zip(found, rows, strict=True)]
    return [(each, told) for each, told in both if told is not None]


def reliability_of(told: Sequence[tuple[Compared, Calibration]]) -> Figure | None:
    """How often each is right against how sure it says it is; dots grow with the share of images."""
    if not told:
        return None
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": READY_MADE, "dash": "dash", "width": 1.5},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for place, (each, found) in enumerate(told):
        before = sum(other.colour == each.colour for other, _ in told[:place])
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain(each.name, 40),
                "x": [b.confidence for b in found.bins],
                "y": [b.accuracy for b in found.bins],
                "customdata": [b.share for b in found.bins],
                "line": {"color": each.colour, "width": 2, "dash": DASHES[before % len(DASHES)]},
                "marker": {"color": each.colour, "size": [6 + 22 * b.share**0.5 for b in found.bins], "opacity": 0.85},
                "hovertemplate": "says %{x:.2f}, is right %{y:.1%}<br>%{customdata:.1%} of the images",
            }
        )
    return figure(
        data,
        "On the dashed line a prompt is as sure as it should be",
        xaxis={"range": [0, 1.03], "title": {"text": "how sure it says it is"}, "tickformat": ".1f"},
        yaxis={"range": [0, 1.05], "title": {"text": "how often it is right"}, "tickformat": ".0%"},
        showlegend=True,
        legend={"orientation": "v", "y": -0.24, "yanchor": "top"},  # long names, one under the other
        margin={"t": 44},
        height=400 + 22 * len(told),
    )


def calibration_table(told: Sequence[tuple[Compared, Calibration]], missing: int, names: Sequence[str]) -> Html:
    """A sentence and the errors of each, with their intervals; class by class folded."""
    parts = []
    for each, found in told:
        bins = [{"confidence": b.confidence, "accuracy": b.accuracy, "share": b.share} for b in found.bins]
        dot = tag("i", class_="pl-dot-method", style=f"background:{each.colour}")
        parts.append(tag("p", dot, tag("b", each.name), ": ", calibration_sentence(found.ece.value, bins)))
    heads = ["Result", Html(f"{ECE}>"), Html(f"{MASS}>"), "Too sure by>"]
    rows = [
        [
            each.name,
            f"{percent(f.ece.value)} ({percent(f.ece.low)} to {percent(f.ece.high)})",
            f"{percent(f.ece_equal_mass.value)} ({percent(f.ece_equal_mass.low)} to {percent(f.ece_equal_mass.high)})",
            f"{100 * f.surplus:+.1f} points",
        ]
        for each, f in told
    ]
    if missing:
        what = f"{counted(missing, 'result')} of an older version did not keep probabilities for every image."
        parts.append(notice("info", what, "Train again to see how sure the prompt is."))
    if told:
        parts += [table(heads, rows), fold("Class by class", _class_errors(told, names))]
    return join(parts)


def _class_errors(told: Sequence[tuple[Compared, Calibration]], names: Sequence[str]) -> Html:
    positions = sorted({c.position for _, found in told for c in found.per_class})
    by_result = [{c.position: c for c in found.per_class} for _, found in told]
    rows = [
        [
            names[p] if p < len(names) else "?",
            *(f"{percent(own[p].confidence)} / {percent(own[p].accuracy)}" if p in own else "–" for own in by_result),
        ]
        for p in positions
    ]
    return table(["Class (says / is right)", *(f"{each.name}>" for each, _ in told)], rows)


# --- what they say ------------------------------------------------------------


def words_of(workspace: Workspace, found: Sequence[Compared]) -> tuple[list[tuple[Compared, WordsAnswer]], list[str]]:
    """(what is known of each learned prompt, ids of runs that nobody has read yet)."""
    told, missing = [], []
    for each in found:
        if each.ready_made:
            continue
        answer = read_words(workspace, each.runs[0].id)
        if answer is None:
            missing.append(each.runs[0].id)
        else:
            told.append((each, answer))
    return told, missing


def words_shown(told: Sequence[tuple[Compared, WordsAnswer]], missing: Sequence[str]) -> Html:
    """Nearest words, and where words and images lie before and after. The action `read` has no value."""
    parts: list[Html] = []
    if missing:
        what = f"{counted(len(missing), 'prompt')} not read yet."
        read = action("Read what the prompts say", "read", "", "primary")
        parts.append(tag("div", tag("p", what, " It takes some seconds for each."), read, class_="pl-row"))
    if told:
        parts.append(_geometry(told))
    parts += [_one(each, answer) for each, answer in told]
    return tag("div", *parts)


def _one(each: Compared, answer: WordsAnswer) -> Html:
    dot = tag("i", class_="pl-dot-method", style=f"background:{each.colour}")
    if answer.unreadable:
        body = tag("p", answer.unreadable)
    else:
        usual = answer.usual_distance or 0.0
        nearest = [token.words[0].distance for token in answer.tokens if token.words]
        far = sum(distance > usual for distance in nearest)
        sentence = (
            f"{far} of {counted(len(nearest), 'learned word')} lie farther from every real word than real words do"
        )
        lead = f"{sentence} from each other ({usual:.2f}): those mean no word, only a direction."
        if not far:
            lead = f"Every learned word lies near a real one (real words are {usual:.2f} apart)."
        shown = _tokens(answer.tokens[:MOST_TOKENS])
        rest = len(answer.tokens) - MOST_TOKENS
        more = tag("p", f"and {counted(rest, 'further place')}", class_="pl-quiet") if rest > 0 else ""
        body = join([tag("p", lead), shown, more])
    notes = [tag("p", note, class_="pl-quiet") for note in answer.notes]
    margins = fold("How clearly each class stands out", _margins(answer)) if answer.margins else ""
    return tag("section", tag("h4", dot, each.name), body, *notes, margins, class_="pl-words")


def _tokens(tokens: Sequence[ContextToken]) -> Html:
    per_class = any(token.of for token in tokens)
    heads = [*(["Class"] if per_class else []), "Place>", "Nearest words (distance)"]
    rows = [
        [
            *([token.of] if per_class else []),
            str(token.place + 1),
            join([tag("span", tag("b", tag("bdi", n.word)), f" {n.distance:.2f}") for n in token.words], " · "),
        ]
        for token in tokens
    ]
    return table(heads, rows)


def _geometry(told: Sequence[tuple[Compared, WordsAnswer]]) -> Html:
    rows = [
        [
            each.name,
            *(
                _change(getattr(answer.before, name, None), getattr(answer.after, name, None))
                for name in ("modality_gap", "alignment", "uniformity_images", "uniformity_words")
            ),
        ]
        for each, answer in told
    ]
    heads = ["Ready-made → learned", *(Html(f"{h}>") for h in (GAP, ALIGNMENT)), Html(f"{SPREAD} of images>")]
    return table([*heads, Html(f"{SPREAD} of words>")], rows)


def _change(before: float | None, after: float | None) -> str:
    return " → ".join("–" if value is None else f"{value:.2f}" for value in (before, after))


def _margins(answer: WordsAnswer) -> Html:
    lead = "How much nearer images are to the words of their own class than to the nearest other class (cosine)."
    rows = [
        [m.name, str(m.images), f"{m.before:+.3f}", "–" if m.after is None else f"{m.after:+.3f}"]
        for m in answer.margins
    ]
    return join([tag("p", lead), table(["Class", "Images>", "Ready-made>", "Learned>"], rows)])


def similarity_maps(told: Sequence[tuple[Compared, WordsAnswer]]) -> tuple[Figure | None, Figure | None]:
    """How alike the words of classes are, ready-made and with the first learned prompt, on one scale."""
    found = next(((e, a) for e, a in told if a.similarity_after and len(a.class_names) <= MOST_CLASSES), None)
    if found is None:
        return None, None
    each, answer = found
    assert answer.similarity_after is not None
    low = min(min(map(min, answer.similarity_before)), min(map(min, answer.similarity_after)))
    names = [plain(name, 22) for name in answer.class_names]
    drawn = []
    for title, values in (("Ready-made prompt", answer.similarity_before), (each.name, answer.similarity_after)):
        data = heat(values, names, names, low, number=".2f")
        axis = {"showgrid": False, "tickangle": -40}
        height = max(400, 170 + 22 * len(names))
        named = f"{plain(title, 40)}: how alike the words of classes are"
        drawn.append(
            figure([data], named, xaxis=axis, yaxis={"autorange": "reversed", "showgrid": False}, height=height)
        )
    return drawn[0], drawn[1]
