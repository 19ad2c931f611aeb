"""Second reader: how far readers agree, where they do not, and the last word by a third."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.components.gallery import grid, pager
from app.components.html import Html, action, empty_state, fold, notice, table, tag, term
from app.components.icons import GALLERY
from app.components.label_desk import Desk, cells, existing, number_of, samples_of
from app.components.label_history import VERDICTS
from app.components.live import live_html, pressed
from app.components.words import counted, percent
from engines.errors import DataError
from engines.labelling import (
    Agreement,
    Dispute,
    Measure,
    Pair,
    Standing,
    adjudication_tasks,
    agreement,
    disagreements,
)
from engines.store import Occasion
from engines.store.browse import classes

PAGE_SIZE = 24
NOT_GRADABLE = "not gradable"
MEASURES = {
    "percent": ("Same answer", "Share of the images on which they said the same. Chance alone makes some of that."),
    "fleiss": ("Fleiss’ kappa", "Agreement beyond chance for two or more readers: 0 is chance, 1 is perfect."),
    "krippendorff": ("Krippendorff’s alpha", "As kappa; also right where not everybody has read every image."),
    "gwet": ("Gwet’s AC1", "Agreement beyond chance that stays fair where one class is by far the most common."),
}
COHEN = term("Cohen’s kappa", "Agreement of two readers beyond chance: 0 is chance, 1 is perfect.")
WORDS = ((0.8, "almost perfect"), (0.6, "good"), (0.4, "moderate"), (0.2, "fair"), (0.0, "slight"))
"""Names of the ranges of kappa after Landis and Koch (Biometrics 1977), in plain words."""


class SecondReader:
    """The tab, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace
        self.figures = live_html(elem_id="label-agreement")
        self.disputes = live_html(elem_id="label-disputes")

    @property
    def shown(self) -> list[Any]:
        return [self.figures, self.disputes]

    def listen(self) -> None:
        desk, context = self.desk, self.desk.context
        asked = [desk.dataset, desk.name]
        context.listen(self.figures.action, self.look, asked, self.shown)
        context.listen(self.disputes.action, self.act, asked, [*self.shown, *desk.screen], every=True)

    def look(self, dataset_id: Any, name: Any) -> list[Html]:
        """The tab for a data set."""
        chosen = existing(self.workspace, dataset_id)
        found = agreement(self.workspace, chosen)
        names = {each.id: each.name for each in classes(self.workspace, chosen)}
        return [figures(found, names), self._disputes(chosen, str(name or ""), names)]

    def act(self, dataset_id: Any, name: Any, event: gr.EventData) -> list[Any]:
        what, value = pressed(event)
        chosen = existing(self.workspace, dataset_id)
        if what == "decide":
            ids = (
                [task.sample_id for task in adjudication_tasks(self.workspace, chosen, str(name or ""))] if name else []
            )
            if name and not ids:
                raise DataError(
                    "There is nothing for you to decide.", "The last word is for somebody who has not read them."
                )
            title = "The last word where readers disagree"
            return [gr.skip(), gr.skip(), *self.desk.open_list(chosen, name, ids, Occasion.ADJUDICATION, title)]
        names = {each.id: each.name for each in classes(self.workspace, chosen)}
        first = number_of(value) or 0 if what == "page" else 0
        return [gr.skip(), self._disputes(chosen, str(name or ""), names, first), *[gr.skip()] * 3]

    def _disputes(self, dataset_id: int, name: str, names: Mapping[int, str], first: int = 0) -> Html:
        """The images on which readers differ. What they said stays folded where this reader may yet decide."""
        found = disagreements(self.workspace, dataset_id)
        if not found:
            return Html("")
        waiting = [each for each in found if not each.adjudicated and not each.majority]
        mine = {task.sample_id for task in adjudication_tasks(self.workspace, dataset_id, name)} if name else set()
        first = min(first, (len(found) - 1) // PAGE_SIZE * PAGE_SIZE)
        page = found[first : first + PAGE_SIZE]
        hidden = {each.sample_id for each in page if each in waiting and (each.sample_id in mine or not name)}
        captions = {
            each.sample_id: "readers differ" if each.sample_id in hidden else _said(each, names) for each in page
        }
        samples = samples_of(self.workspace, dataset_id, captions)
        told = (
            fold(
                "Show what was said of images without a last word (not for those who will decide)",
                tag("ul", *(tag("li", f"Image {n}: ", _said(each, names)) for n, each in enumerate(page, 1))),
            )
            if hidden
            else ""
        )
        return tag(
            "div",
            tag("h3", "Where they do not agree"),
            _ask_third(len(found), len(waiting), len(mine), name),
            pager(first, len(page), len(found), PAGE_SIZE, keys=False) if len(found) > PAGE_SIZE else "",
            grid(cells(self.workspace, samples, captions)),
            told,
            class_="pl-stack pl-disputes",
        )


def _ask_third(found: int, waiting: int, mine: int, name: str) -> Html:
    """How many wait for a last word, and whether this reader can speak it."""
    said = f"On {counted(found, 'image')} readers gave different answers; "
    if not waiting:
        return notice("good", said + "all are settled, by a majority or a last word.")
    what = said + f"{counted(waiting, 'image waits', 'images wait')} for a last word."
    if mine:
        more = "Decide before you look at what they said."
        return tag(
            "div", notice("info", what, more), action(f"Decide {mine} now", "decide", "", "primary"), class_="pl-offer"
        )
    more = (
        "Type your name at the top of the page." if not name else "You have read them yourself: a third reader decides."
    )
    return notice("info", what, more)


# --- figures -------------------------------------------------------------------------


def figures(found: Agreement, names: Mapping[int, str]) -> Html:
    """How far the readers agree: a sentence, the coefficients, who took what for what, and repeated images."""
    if not found.images:
        again = tag("div", *(_again(pair) for pair in found.again), class_="pl-stack") if found.again else ""
        return tag("div", _nothing_twice(found.readers), again, class_="pl-stack")
    parts = [tag("p", _sentence(found), class_="pl-sentence"), _coefficients(found)]
    for pair in found.pairs:
        confusion = _confusion(pair, found.categories, names)
        title = f"What {pair.first} and {pair.second} took the same image for"
        parts.append(fold(title, confusion) if len(found.pairs) > 1 else confusion)
    parts += [_again(pair) for pair in found.again]
    refresh = tag("div", action("Work it out again", "again", "", "small"))
    return tag("div", *parts, refresh, class_="pl-stack")


def _nothing_twice(readers: Sequence[str]) -> Html:
    so_far = f" So far {readers[0]} has read alone." if len(readers) == 1 else ""
    return empty_state(
        GALLERY,
        f"No image has been read by two people yet.{so_far} Set “Share read twice” under Advanced: part of the next "
        "batch then stays in the queue until a second reader, under another name, has read it too, without seeing the "
        "first answer.",
        action("Look again", "again"),
    )


def _sentence(found: Agreement) -> Html:
    readers = list(dict.fromkeys(name for pair in found.pairs for name in (pair.first, pair.second)))
    who = " and ".join(readers) if len(readers) == 2 else f"{len(readers)} readers"
    head = f"{who} said the same of {percent(found.percent.value)} of {counted(found.images, 'image')}"
    kappa = found.pairs[0].kappa if len(found.pairs) == 1 else found.fleiss
    if kappa.value is None:
        return tag("span", f"{head}. {kappa.why}")
    words = next((word for least, word in WORDS if kappa.value > least), "no better than chance")
    low = kappa.interval[0] if kappa.interval else None
    unsure = " With so few images that may be luck." if low is None or low <= 0 < kappa.value else ""
    beyond = "beyond chance" if words != "no better than chance" else "that is"
    said = f"; {beyond}, the agreement is {words}" if words != "no better than chance" else f"; {beyond} {words}"
    return tag("span", f"{head}{said} (kappa {_two(kappa.value)}{_between(kappa)}).{unsure}")


def _coefficients(found: Agreement) -> Html:
    rows = []
    for name, (title, meaning) in MEASURES.items():
        measure: Measure = getattr(found, name)
        rows.append([term(title, meaning), _value(measure, name == "percent"), _interval(measure, name == "percent")])
    for pair in found.pairs:
        who = tag("span", COHEN, f", {pair.first} and {pair.second} ({counted(pair.images, 'image')})")
        rows.append([who, _value(pair.kappa), _interval(pair.kappa)])
    return tag("div", table(["Measure", "Value>", "95% interval>"], rows), class_="pl-card")


def _confusion(pair: Pair, categories: Sequence[int | None], names: Mapping[int, str]) -> Html:
    """What one called what the other called otherwise; classes that neither used are left out."""
    used = [each for each, row in enumerate(pair.confusion) if any(row) or any(other[each] for other in pair.confusion)]
    titles = [_category(categories[each], names) for each in used]

    def cell(row: int, column: int) -> Any:
        images = pair.confusion[row][column]
        return tag("b", images) if row == column else images or "–"

    rows = [[title, *(cell(row, column) for column in used)] for row, title in zip(used, titles, strict=True)]
    caption = f"What {pair.first} (rows) and {pair.second} (columns) took the same image for"
    return tag(
        "div",
        table([pair.first, *(f"{title}>" for title in titles)], rows, caption, "pl-confusion"),
        class_="pl-card",
    )


def _again(pair: Pair) -> Html:
    """A reader against themselves, on images shown once more."""
    same = sum(row[place] for place, row in enumerate(pair.confusion))
    kappa = f" (kappa {_two(pair.kappa.value)}{_between(pair.kappa)})" if pair.kappa.value is not None else ""
    images = "image that was" if pair.images == 1 else "images that were"
    return tag("p", f"{pair.first} said the same again of {same} of {pair.images} {images} shown once more{kappa}.")


def _category(class_id: int | None, names: Mapping[int, str]) -> str:
    return NOT_GRADABLE if class_id is None else names.get(class_id, "?")


def _value(measure: Measure, share: bool = False) -> Html:
    if measure.value is None:
        return tag("span", "–", title=measure.why)
    return tag("span", percent(measure.value) if share else _two(measure.value))


def _interval(measure: Measure, share: bool = False) -> str:
    if measure.interval is None:
        return "too few images" if measure.value is not None else ""
    low, high = measure.interval
    return f"{percent(low)} to {percent(high)}" if share else f"{_two(low)} to {_two(high)}"


def _between(measure: Measure) -> str:
    return f", 95% interval {_two(measure.interval[0])} to {_two(measure.interval[1])}" if measure.interval else ""


def _two(value: float) -> str:
    """Two digits, and a minus that looks like one."""
    return f"{value:.2f}".replace("-", "−")


# --- what was said ----------------------------------------------------------------------


def _said(dispute: Dispute, names: Mapping[int, str]) -> Html:
    readings = [f"{reader}: {_verdict(said, names)}" for reader, said in dispute.verdicts.items()]
    last = f"last word: {_verdict(dispute.adjudication, names)}" if dispute.adjudication else ""
    words = [last or ("majority: " + _category(dispute.class_id, names) if dispute.majority else ""), *readings]
    text = "; ".join(filter(None, words))
    return tag("span", text, title=text)


def _verdict(said: Standing, names: Mapping[int, str]) -> str:
    return names.get(said.class_id, "?") if said.class_id is not None else VERDICTS[said.verdict]
