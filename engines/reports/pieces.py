"""The parts that reports and slides of results are made of. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.prompts.settings import TrainingConfig
from engines.reports import svg
from engines.reports.data_facts import SPLIT_WORDS, DataFacts
from engines.reports.markup import Html, esc, join, table, tag
from engines.reports.pictures import SMALL, grid, picture
from engines.reports.results import Result, class_names, ready_made, same_seed
from engines.reports.sentences import Interval
from engines.reports.words import counted, number, percent
from engines.store import Run, Workspace
from engines.store.agreement import disagreements
from engines.store.answers import Answer, answers

LOOKED_AT = 400
"""Mistakes among which those that are shown are chosen."""
MOST_CLASSES = 40
"""Classes that a figure shows; a table shows all."""
PROTOCOLS = {
    "few-shot": "It was tested on images of the same classes that it had not learned from.",
    "base-to-new": "It learned the first half of the classes, and was tested on these and on the other half, which it"
    " never saw (base and new classes).",
    "cross-dataset": "It learned from one data set, and was tested on others with classes of their own.",
    "domain-generalisation": "It learned from some sites, scanners or stains, and was tested on others.",
    "unsupervised": "It learned from images without using their labels.",
    "zero-shot-anomaly": "It learned what defects look like in one data set, and looked for them in others.",
}
NUMBERS = {
    "accuracy": "right",
    "macro_f1": "mean F1 of the classes",
    "base_accuracy": "right, classes it was trained on (base)",
    "new_accuracy": "right, classes it never saw (new)",
    "harmonic_mean": "harmonic mean of both",
    "target_accuracy": "right, on the images from elsewhere (mean)",
    "image_auroc": "damaged images above sound ones (AUROC)",
    "image_ap": "damaged images first (average precision)",
    "pixel_auroc": "damaged places above sound ones (AUROC)",
    "pixel_ap": "damaged places first (average precision)",
    "pro": "damaged regions found (PRO)",
    "ece": "calibration error (ECE)",
}
"""Numbers of a summary in words, in the order of a report."""


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    body: Html


@dataclass(frozen=True)
class Report:
    """What a report says, before it is a page."""

    kind: str
    title: str
    sentence: str
    """The result, in words."""
    sections: list[Section]


def paragraphs(sentences: Sequence[str]) -> Html:
    return join(tag("p", sentence) for sentence in sentences)


def bullets(sentences: Sequence[str]) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences))


def titled(title: str, body: Html) -> Html:
    return join([tag("h3", title), body]) if body else Html("")


# --- what was asked, of which images, how ---------------------------------------


def question(results: Sequence[Result], data: DataFacts | None) -> str:
    """What was asked, in a sentence."""
    learned = [each for each in results if each.trains]
    where = f"the images of “{data.name}”" if data else "images that are no longer in the workspace"
    if not learned:
        return f"How well does the ready-made prompt, without any training, tell {where} apart?"
    if len(learned) == 1:
        run = learned[0].runs[0]
        few = f" from {counted(run.shots, 'labelled image')} per class" if run.shots else ""
        return f"Does a prompt that was learned{few} tell {where} apart better than the ready-made prompt?"
    return (
        f"Which of {len(learned)} learned prompts tells {where} apart best, does it beat the ready-made one, and is"
        " that more than chance?"
    )


def data_sentence(data: DataFacts | None, results: Sequence[Result] = ()) -> str:
    """How many images of how many classes there are, from how many patients or slides, and how many were used."""
    if data is None:
        return "The data set is no longer in the workspace."
    labelled = {split: sum(c.get(split, 0) for c in data.counts.values()) for split in data.splits}
    listed = ", ".join(f"{images:,} {SPLIT_WORDS.get(split, split)}" for split, images in labelled.items())
    said = [
        f"“{data.name}” has {counted(data.images, 'image')} of {counted(len(data.counts), 'class', 'classes')}:"
        f" {listed}."
    ]
    if data.groups:
        groups = {split: data.groups[split] for split in data.splits if split in data.groups}
        listed = ", ".join(f"{count:,} {SPLIT_WORDS.get(split, split)}" for split, count in groups.items())
        said.append(f"Patients or slides that they are from: {listed}.")
    used = {int(run.summary.get("images_trained", 0)) for each in results for run in each.runs if each.trains}
    if used:
        said.append(f"Each training used {' or '.join(number(n) for n in sorted(used))} of them.")
    return " ".join(said)


def data_table(data: DataFacts) -> Html:
    heads = ["Class", *(f"{SPLIT_WORDS.get(split, split)}>" for split in data.splits), "all>"]
    rows = [
        [name, *(number(by.get(split, 0)) for split in data.splits), number(sum(by.values()))]
        for name, by in data.counts.items()
    ]
    return table(heads, rows)


def method_words(results: Sequence[Result]) -> Html:
    """Each method in plain words, with its paper; and how it was tested."""
    parts = []
    for entry in {each.entry.name: each.entry for each in results if each.entry}.values():
        parts += [tag("h3", entry.title), tag("p", entry.summary), tag("p", f"Source: {entry.paper}", class_="quiet")]
    protocols = dict.fromkeys(each.runs[0].protocol for each in results)
    backbones = ", ".join(f"“{name}”" for name in dict.fromkeys(each.runs[0].backbone for each in results))
    parts.append(paragraphs([PROTOCOLS[name] for name in protocols if name in PROTOCOLS]))
    parts.append(
        tag(
            "p",
            f"The model is {backbones}; its weights stay as they are. The ready-made prompt is a plain sentence with"
            " the name of the class (zero-shot): it has learned nothing, and is what training must beat.",
        )
    )
    return join(parts)


# --- what came out ---------------------------------------------------------------


def with_ready_made(results: Sequence[Result]) -> list[Result]:
    """The results, and the ready-made prompt beside them where a run carries it."""
    carrier = next((each for each in results if each.trains and each.runs[0].summary.get("zero_shot")), None)
    return [*results, ready_made(carrier)] if carrier else list(results)


def share(found: Interval | None) -> str:
    """ "91.2% ± 0.8" over seeds, "91.2% (87.0 to 94.2)" of one."""
    if found is None:
        return "–"
    if found.repeats > 1:
        return f"{percent(found.value)} ± {100 * found.spread:.1f}"
    return f"{percent(found.value)} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def score_bars(results: Sequence[Result], title: str = "Share of the test images that were right") -> Html:
    found = sorted((bar for each in results if (bar := each.bar())), key=lambda bar: -bar.value)
    both = any("harmonic_mean" in each.summary for each in results)
    words = f"{title}{', base and new classes together (harmonic mean)' if both else ''}"
    return (
        join([svg.bars(found, words), tag("p", f"{words}, with its uncertainty.", class_="quiet")])
        if found
        else Html("")
    )


def numbers_table(results: Sequence[Result]) -> Html:
    """Every number that was measured, with its uncertainty where it is a share of images."""
    known = [name for name in NUMBERS if any(isinstance(each.summary.get(name), int | float) for each in results)]
    if "base_accuracy" in known:
        known.remove("accuracy")  # the same number
    rows = [[NUMBERS[name], *(_shown(each, name) for each in results)] for name in known]
    heads = ["Number", *(f"{each.name}>" for each in results)]
    if len(results) > 2:
        rows = [[each.name, *(_shown(each, name) for name in known)] for each in results]
        heads = ["Result", *(f"{NUMBERS[name]}>" for name in known)]
    note = (
        "± is the standard deviation over the seeds. In brackets: where a share of images may lie with 95% confidence"
        " (Wilson), from one seed."
    )
    return join([table(heads, rows), tag("p", note, class_="quiet")])


def _shown(result: Result, name: str) -> str:
    found = result.interval(name, _images(result, name))
    # Of one seed, only of a share of images is it known how far it may be off.
    alone = found is not None and found.repeats == 1 and not name.endswith("accuracy")
    return percent(found.value) if found and alone else share(found)


def _images(result: Result, name: str) -> int | None:
    whole = result.runs[0].summary
    if name in ("base_accuracy", "accuracy"):
        return int(whole.get("images", 0))
    if name == "new_accuracy":
        return int(whole.get("new", {}).get("images", 0))
    if name == "target_accuracy":
        return sum(int(target.get("images", 0)) for target in whole.get("targets", {}).values())
    return None


def targets_table(result: Result) -> Html:
    """How it did on each other data set or domain; nothing where there was none."""
    found = result.runs[0].summary.get("targets", {})
    rows = [
        [
            name,
            number(int(each.get("images", 0))),
            percent(each.get("accuracy")),
            percent(each["zero_shot"].get("accuracy")),
        ]
        for name, each in found.items()
    ]
    return table(["Tested on", "images>", f"{result.name}>", "ready-made prompt>"], rows) if rows else Html("")


def class_figure(results: Sequence[Result], most: int = MOST_CLASSES, first: int = 0, told: bool = True) -> Html:
    """Bars of `most` classes from place `first` on, those with the least right first; `told`: say how many are left."""
    found, counts = [each.class_bars() for each in results], results[0].class_counts()
    names = sorted(found[0], key=lambda name: found[0][name].value)
    shown = names[first : first + most]
    groups = [(f"{name} ({counts.get(name, 0):,})", [one[name] for one in found if name in one]) for name in shown]
    if not groups:
        return Html("")
    left = len(names) - first - most
    more = tag("p", f"The {left} other classes had more right.", class_="quiet") if left > 0 and told else ""
    return join([svg.grouped_bars(groups, "Share right in every class (number of test images)"), more])


def confusion(result: Result) -> Html:
    counts, names = result.summary.get("confusion"), result.summary.get("class_names", [])
    if not counts or len(names) > 2 * MOST_CLASSES:
        return Html("")
    return svg.heat_map(counts, names, "What was taken for what")


def calibration(result: Result) -> Html:
    bins = result.summary.get("reliability")
    return (
        svg.reliability(bins, result.colour, "How sure it says it is, and how often it is right") if bins else Html("")
    )


# --- images ----------------------------------------------------------------------


def answer_images(workspace: Workspace, result: Result, most: int = 12, side: int = SMALL) -> tuple[Html, Html]:
    """(images it got wrong, the surest mistakes first; images it got right, of as many classes as possible)."""
    run = result.runs[0]
    names = class_names(workspace, run)
    mistakes = answers(workspace, run.id, limit=LOOKED_AT).answers
    wrong = [mistakes[place] for place in _varied([(each.true, each.predicted) for each in mistakes], most)]
    each = max(1, -(-most // max(1, len(names))))
    right: list[Answer] = []
    for place in range(len(names)):
        if len(right) < most:
            right += answers(workspace, run.id, true=place, predicted=place, limit=each).answers
    return (
        grid([(picture(workspace, a.sample, side), _taken(a, names)) for a in wrong]),
        grid([(picture(workspace, a.sample, side), _taken(a, names)) for a in right[:most]]),
    )


def _varied(kinds: Sequence[Hashable], most: int) -> list[int]:
    """Places of at most `most` things, of as many kinds as possible; within a kind in their order."""
    seen: Counter[Hashable] = Counter()
    ranked = []
    for place, kind in enumerate(kinds):
        ranked.append((seen[kind], place))
        seen[kind] += 1
    return [place for _, place in sorted(ranked)[:most]]


def _taken(answer: Answer, names: Sequence[str]) -> Html:
    true, said = _name(names, answer.true), _name(names, answer.predicted)
    words = f"rightly answered, {answer.probability:.2f}"
    if answer.true != answer.predicted:
        words = f"taken for {said}, {answer.probability:.2f}"
    return join([tag("b", true), tag("span", words)])


def differing_images(
    workspace: Workspace, first: Result, second: Result, most: int = 12, side: int = SMALL
) -> tuple[Html, int]:
    """Images on which two results do not say the same, and how many there are."""
    pair = same_seed(first, second)
    if pair is None:
        return Html(""), 0
    known, total = disagreements(workspace, pair, limit=LOOKED_AT)
    found = [known[place] for place in _varied([(each.true, each.said) for each in known], most)]
    names = class_names(workspace, (second if first.ready_made else first).runs[0])
    cells = []
    for each in found:
        said = [
            tag(
                "span",
                tag("i", style=f"background:{one.colour}"),
                f"{'✓' if guess == each.true else '✗'} {_name(names, guess)}",
            )
            for guess, one in zip(each.said, (first, second), strict=True)
        ]
        cells.append((picture(workspace, each.sample, side), join([tag("b", _name(names, each.true)), *said])))
    return grid(cells), total


def key_of(results: Sequence[Result]) -> Html:
    """Which colour is which result."""
    return tag("p", *(tag("span", tag("i", style=f"background:{r.colour}"), r.name, class_="key") for r in results))


# --- to do it again --------------------------------------------------------------


def reproducing(result: Result) -> Html:
    """Versions, seeds, settings and the data set's fingerprint."""
    run = result.runs[0]
    made = run.summary.get("made_with", {})
    rows: list[Sequence[Any]] = [
        ["Model", run.backbone],
        ["Method", run.method],
        ["Protocol", run.protocol],
        ["Labelled images per class", number(run.shots) if run.shots else "all"],
        ["Seeds", ", ".join(str(each.seed) for each in result.runs)],
        ["Fingerprint of the data set", tag("code", run.dataset_fingerprint or "not recorded")],
        ["Computed on", made.get("device", "not recorded")],
        ["Versions", ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items()) or "not recorded"],
        *_settings(result, run),
    ]
    return table(["What", "Value"], rows)


def _settings(result: Result, run: Run) -> list[Sequence[Any]]:
    own = result.entry.schema.get("properties", {}) if result.entry else {}
    rows: list[Sequence[Any]] = [
        [own.get(name, {}).get("title", name), esc(_plain(value))]
        for name, value in run.config.get("settings", {}).items()
    ]
    for name, value in run.config.get("training", {}).items():
        field = TrainingConfig.model_fields.get(name)
        rows.append([field.title if field and field.title else name, esc(_plain(value))])
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "none"


def _name(names: Sequence[str], place: int) -> str:
    return names[place] if 0 <= place < len(names) else "a class that is no longer there"
