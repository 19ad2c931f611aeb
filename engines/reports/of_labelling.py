"""The report of a labelling study: how many images, by whom, how fast it taught the prompt, how far readers agree.

Names of readers and files, and comments, stay out. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from engines.labelling import Dispute, LabelSettings, Measure, Pair, disagreements
from engines.reports import pieces, svg
from engines.reports.colours import BLUE
from engines.reports.limits import NOT_FOR_DIAGNOSIS
from engines.reports.markup import Html, join, table, tag
from engines.reports.pictures import SMALL, grid, picture
from engines.reports.pieces import Report, Section
from engines.reports.study import NOT_GRADABLE, Study, study
from engines.reports.words import counted, duration, number, percent
from engines.store import Sample, Verdict, Workspace

MEASURES = {
    "percent": "Same answer (share of the images)",
    "fleiss": "Fleiss’ kappa",
    "krippendorff": "Krippendorff’s alpha",
    "gwet": "Gwet’s AC1",
}
FEW_TWICE = 50
"""Images read by two or more, below which agreement is called rough."""


def report_of_labelling(workspace: Workspace, dataset_id: int) -> Report:
    """The report of a labelling study.

    Raises:
        DataError: the data set does not exist, or nobody has read any of its images.
    """
    found = study(workspace, dataset_id)
    disputed = dispute_images(workspace, dataset_id, found)
    sections = [
        Section("What was asked", tag("p", question(found))),
        Section("The images", join([tag("p", pieces.data_sentence(found.data)), pieces.data_table(found.data)])),
        Section("How it was done", pieces.paragraphs(method(found))),
        Section("What was labelled", labelled(found)),
        Section("Who labelled", readers_table(found)),
        Section("What the labels were worth", curve(found)),
        Section("How far readers agree", agreement_tables(found)),
        Section("Images on which they differ", disputed or tag("p", "There are none.")),
        Section("The limits of this result", pieces.bullets(limits(found))),
        Section("To do it again", again(found)),
    ]
    return Report("Labelling study", f"Labelling “{found.data.name}”", found.sentence, sections)


def question(found: Study) -> str:
    return (
        f"What do the images of “{found.data.name}” show, how many labels does a prompt need to tell them apart, and"
        " how far can the labels be trusted?"
    )


def method(found: Study) -> list[str]:
    settings = found.settings
    sentences = []
    if found.progress.number:
        balanced = ", with a share for every class (PCB)" if settings.balanced else ""
        sentences.append(
            f"The program picked {counted(settings.budget, 'image')} a round by the strategy “{settings.strategy}”"
            f"{balanced}; after each round it learned a prompt from the labels so far ({settings.method} on"
            f" “{settings.backbone}”)."
        )
    sentences.append(
        "Readers were blind: they saw no suggestion and no earlier label before their verdict."
        if settings.blind
        else "Readers saw suggestions or earlier labels before their verdict, which may have swayed them."
    )
    if settings.second_share:
        sentences.append(
            f"{percent(settings.second_share)} of the images of a round were read by a second reader, too."
        )
    sentences.append("Where readers differ, what more than half of them say counts, or else the last word of a third.")
    return sentences


def labelled(found: Study) -> Html:
    now = found.progress
    aside = {"unsure": now.unsure, NOT_GRADABLE: now.not_gradable, "flagged": now.flagged, "disputed": now.disputed}
    told = ", ".join(f"{number(count)} {name}" for name, count in aside.items() if count)
    rows = [[each.name, number(each.labelled)] for each in now.classes]
    return join(
        [
            tag("p", f"{number(now.pool_left)} images without a label could still be asked about."),
            tag("p", f"Set aside: {told}.") if told else "",
            table(["Class", "labelled>"], rows),
        ]
    )


def readers_table(found: Study) -> Html:
    rows = [
        [each.name, number(each.images), number(each.unsure), "–" if each.seconds is None else _took(each.seconds)]
        for each in found.readers
    ]
    note = tag("p", "Readers are numbered in the order of their first verdict.", class_="quiet")
    return join([table(["Reader", "images>", "unsure>", "time per image (median)>"], rows), note])


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def curve(found: Study) -> Html:
    """The curve, its numbers, and advice on stopping."""
    rows = [
        [str(each.number), number(each.labelled), percent(each.accuracy), _between(each.interval)]
        for each in found.progress.rounds
        if each.accuracy is not None
    ]
    hint = tag("p", found.progress.stop_hint) if found.progress.stop_hint else ""
    numbers = table(["Round>", "labels>", "right>", "95% interval>"], rows) if rows else ""
    return join([curve_figure(found), numbers, hint])


def curve_figure(found: Study) -> Html:
    """Share right by number of labels, with intervals; the ready-made prompt as a level."""
    measured = [each for each in found.progress.rounds if each.accuracy is not None]
    if not measured:
        return tag("p", "This was not measured: there are no rounds yet, or no labelled images to test on.")
    points = [
        svg.Point(each.labelled, each.accuracy or 0.0, *(each.interval if each.interval else (None, None)))
        for each in measured
    ]
    ready = next((each.zero_shot for each in measured if each.zero_shot is not None), None)
    level = None if ready is None else ("ready-made prompt", ready)
    lines = {"test images it got right": (BLUE, points)}
    return svg.curve(lines, "Right answers by number of labels", "labels it learned from", level)


def agreement_tables(found: Study) -> Html:
    """Agreement of all, two by two, and of each with themselves."""
    agreed = found.agreement
    parts = [agreement_measures(found)]
    for title, pairs in (("Two by two", agreed.pairs), ("Each against themselves, shown an image again", agreed.again)):
        listed = [
            [_who(pair, found), number(pair.images), *_measured(pair.percent, "percent"), *_measured(pair.kappa)]
            for pair in pairs
        ]
        heads = ["", "images>", "same answer>", "95% interval>", "Cohen’s kappa>", "95% interval>"]
        parts += [pieces.titled(title, table(heads, listed))] if listed else []
    return join(parts)


def agreement_measures(found: Study) -> Html:
    agreed = found.agreement
    if not agreed.images:
        return tag("p", "No image has been read by two readers, so nothing is known about how far they agree.")
    measures: dict[str, Measure] = {name: getattr(agreed, name) for name in MEASURES}
    rows = [[MEASURES[name], *_measured(each, name)] for name, each in measures.items()]
    read = "was" if agreed.images == 1 else "were"
    said = (
        f"{counted(agreed.images, 'image')} {read} read by two or more. 1 is perfect; 0 is chance, but for the first."
    )
    return join([tag("p", said), table(["Measure", "value>", "95% interval>"], rows)])


def _who(pair: Pair, found: Study) -> str:
    return " and ".join(found.pseudonyms[name] for name in dict.fromkeys((pair.first, pair.second)))


def _measured(each: Measure, name: str = "") -> tuple[str, str]:
    if each.value is None:
        return each.why or "–", "–"
    if name == "percent":
        return percent(each.value), _between(each.interval)
    return (
        f"{each.value:.2f}",
        f"{each.interval[0]:.2f} to {each.interval[1]:.2f}" if each.interval else "too few images",
    )


def _between(limits: tuple[float, float] | None) -> str:
    return f"{percent(limits[0])} to {percent(limits[1])}" if limits else "too few images"


def dispute_images(workspace: Workspace, dataset_id: int, found: Study, most: int = 12, side: int = SMALL) -> Html:
    """Images on which readers differ, with what each said."""
    differing = disagreements(workspace, dataset_id)[:most]
    with workspace.session() as session:
        wanted = select(Sample).where(Sample.id.in_([each.sample_id for each in differing]))
        samples = {sample.id: sample for sample in session.scalars(wanted)}
    cells = [
        (picture(workspace, samples[d.sample_id], side), _said(d, found)) for d in differing if d.sample_id in samples
    ]
    return grid(cells)


def _said(each: Dispute, found: Study) -> Html:
    lines = [
        tag("span", f"{found.pseudonyms.get(name, 'Import')}: {_verdict(row.verdict, row.class_id, found.names)}")
        for name, row in each.verdicts.items()
    ]
    if each.class_id is not None and (each.majority or each.adjudicated):
        lines.insert(0, tag("b", f"counts as {found.names.get(each.class_id, '?')}"))
    return join(lines)


def _verdict(verdict: Verdict, class_id: int | None, names: Mapping[int | None, str]) -> str:
    return names.get(class_id, "?") if verdict is Verdict.LABEL else verdict.value.replace("_", " ")


def limits(found: Study) -> list[str]:
    sentences = []
    if len(found.readers) == 1:
        sentences.append("One reader labelled everything, so nothing is known about how far another would agree.")
    elif not found.agreement.images:
        sentences.append("No image was read by two readers, so nothing is known about how far they agree.")
    elif found.agreement.images < FEW_TWICE:
        sentences.append(
            f"Only {counted(found.agreement.images, 'image')} were read twice: agreement is known roughly."
        )
    if not found.settings.blind:
        sentences.append("Reading was not blind: what readers saw before may have drawn their verdicts together.")
    if found.progress.missing:
        names = ", ".join(f"“{name}”" for name in found.progress.missing[:3])
        sentences.append(
            f"Classes without any labelled image: {names}{' …' if len(found.progress.missing) > 3 else ''}."
        )
    if found.progress.disputed:
        sentences.append(f"Nobody has spoken the last word on {counted(found.progress.disputed, 'image')} yet.")
    if found.progress.number:
        sentences.append(
            "The images were picked because a model could learn from them: their mix of classes is not the pool's."
        )
    return [*sentences, "Labels are opinions of readers, not findings from elsewhere.", NOT_FOR_DIAGNOSIS]


def again(found: Study) -> Html:
    rows: list[Sequence[str | Html]] = [
        ["Fingerprint of the data set", tag("code", found.data.fingerprint)],
        ["Seeds of the rounds", ", ".join(map(str, found.seeds)) or "–"],
    ]
    for name, value in found.settings.model_dump().items():
        title = LabelSettings.model_fields[name].title or name
        rows.append([title, "yes" if value is True else "no" if value is False else str(value)])
    return table(["What", "Value"], rows)
