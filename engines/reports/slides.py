"""Results and labelling studies as slides: a whole page that is shown full screen and paged with keys. Torch-free.

Nothing on a slide can be pressed by mistake: there are no controls but paging. File names, patients, readers' names and
comments are on none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.reports import of_labelling, pieces
from engines.reports.data_facts import data_facts
from engines.reports.document import page
from engines.reports.limits import limits
from engines.reports.markup import Html, join, tag
from engines.reports.of_results import best_sentence, sentences
from engines.reports.pictures import LARGE
from engines.reports.pieces import Section
from engines.reports.results import Result, best_two, difference_sentence, find_results
from engines.reports.study import study
from engines.reports.words import counted
from engines.store import Workspace

IMAGES = 8
"""Images on a slide."""
BARS = 16
"""Bars on a slide of classes; what does not fit has slides of its own, up to `MOST_CLASS_SLIDES`."""
MOST_CLASS_SLIDES = 4
LIMITS = 5
KEYS = {
    "→ ↓ Space": "Next page",
    "← ↑": "Page before",
    "Home, End": "First and last page",
    "?": "Show and hide these keys",
    "Esc": "Leave",
}


def slides_of_results(workspace: Workspace, keys: Sequence[str], title: str = "") -> str:
    """Slides of one result or of several side by side, each beside the ready-made prompt.

    Raises:
        ConfigError: a result does not exist or is not done, or they do not fit together.
    """
    results = find_results(workspace, keys)
    beside = pieces.with_ready_made(results)
    data = data_facts(workspace, results[0].runs[0].dataset_id)
    asked = pieces.question(results, data)
    shown = [Section("The question", _large(asked)), Section("The images", _large(pieces.data_sentence(data, results)))]
    if len(beside) > 1:
        first, second = best_two(beside)
        said = sentences(results[0])
        if len(results) > 1:
            said = [best_sentence(beside), difference_sentence(workspace, first, second)]
        images, total = pieces.differing_images(workspace, first, second, IMAGES, LARGE)
        where = f"{counted(total, 'image')} on which they differ"
        pictures = Section(where, join([pieces.key_of([first, second]), images]))
    else:
        said = sentences(results[0])
        pictures = Section("Images it got wrong", pieces.answer_images(workspace, results[0], IMAGES, LARGE)[0])
    shown += [Section("The result", _large(*said)), Section("How many were right", pieces.score_bars(beside))]
    shown += _class_slides(beside)
    shown += [pictures, Section("The limits", pieces.bullets(_few(limits(results, data))))]
    return _deck(title or (data.name if data else results[0].name), shown)


def _class_slides(results: Sequence[Result]) -> list[Section]:
    names, each = list(results[0].class_bars()), max(3, BARS // len(results))
    places = range(0, min(len(names), each * MOST_CLASS_SLIDES), each)
    several = len(places) > 1
    return [
        Section(
            f"Class by class{f', {n} of {len(places)}' if several else ''}",
            pieces.class_figure(results, each, first, told=first == places[-1]),
        )
        for n, first in enumerate(places, 1)
    ]


def slides_of_labelling(workspace: Workspace, dataset_id: int, title: str = "") -> str:
    """Slides of a labelling study.

    Raises:
        DataError: the data set does not exist, or nobody has read any of its images.
    """
    found = study(workspace, dataset_id)
    images = of_labelling.dispute_images(workspace, dataset_id, found, IMAGES, LARGE)
    shown = [
        Section("The question", _large(of_labelling.question(found))),
        Section("The images", _large(pieces.data_sentence(found.data))),
        Section("How it was done", _large(*of_labelling.method(found))),
        Section("The result", _large(found.sentence)),
        Section("What the labels were worth", of_labelling.curve_figure(found)),
        Section("Who labelled", of_labelling.readers_table(found)),
        Section("How far readers agree", of_labelling.agreement_measures(found)),
        *([Section("Images on which they differ", images)] if images else []),
        Section("The limits", pieces.bullets(_few(of_labelling.limits(found)))),
    ]
    return _deck(title or f"Labelling “{found.data.name}”", shown)


def _few(sentences: list[str]) -> list[str]:
    """The first limits, and the last, which is that it is not for diagnosis."""
    return [*sentences[: LIMITS - 1], sentences[-1]] if len(sentences) > LIMITS else sentences


def _large(*said: str) -> Html:
    """Sentences in large type; the more there are to read, the smaller."""
    length = sum(map(len, said))
    size = "short" if length < 180 else "long" if length > 420 else ""
    return tag("div", pieces.paragraphs(said), class_=f"words {size}".strip())


def _deck(title: str, shown: Sequence[Section]) -> str:
    last = len(shown)
    pages = [
        tag(
            "section",
            tag("header", tag("h2", each.title)),
            tag("div", each.body, class_="body"),
            aria_label=f"{number} of {last}: {each.title}",
            hidden=number > 1,
        )
        for number, each in enumerate(shown, 1)
    ]
    keys = tag("dl", *(tag("div", tag("dt", key), tag("dd", what)) for key, what in KEYS.items()))
    sheet = tag("div", tag("h2", "Keys"), keys, id="keys", role="dialog", aria_label="Keys", hidden=True)
    foot = tag("footer", tag("span", title), tag("span", f"1 / {last}", id="place", aria_live="polite"))
    return page(title, join([tag("main", *pages), foot, sheet]), ["look.css", "slides.css"], "slides.js")
