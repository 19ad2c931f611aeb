"""Taking in labels from elsewhere, as labels or as suggestions that nobody has looked at yet."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel
from sqlalchemy import exists, select

from engines.data.base import check_class_count
from engines.data.names import clean
from engines.errors import ConfigError, DataError
from engines.labelling.archives import unpacked
from engines.labelling.label_files import Said, read_label_file
from engines.labelling.readers import folded
from engines.labelling.recognise import Recogniser
from engines.labelling.verdicts import Entry, reader_name, record_all
from engines.store.edit import add_class
from engines.store.models import Annotation, Occasion, Sample, Verdict
from engines.store.workspace import Workspace

As = Literal["suggestions", "labels"]
SHOWN = 200
"""Refused rows that a report names; it counts them all."""
_TOGETHER = 200  # verdicts in one transaction, so that somebody who labels meanwhile waits for moments only

UNKNOWN_CLASS = "the data set has no such class"
CONTRADICTION = "the file says different things about this image"


class RefusedRow(BaseModel):
    where: str
    image: str
    label: str
    reason: str


class LabelImport(BaseModel):
    """What became of a file of labels."""

    rows: int = 0
    images: int = 0
    """Images of which the file says something that can be used."""
    added: int = 0
    """Labels or suggestions that are new."""
    already: int = 0
    """Those that were known from an earlier import."""
    blank: int = 0
    """Rows without a label."""
    unclear: int = 0
    """Rows taken without the probability that they have, since it is no number between 0 and 1."""
    refused: int = 0
    reasons: dict[str, int] = {}
    refused_rows: list[RefusedRow] = []
    """The first of them."""
    unknown_classes: dict[str, int] = {}
    """Rows by the name of a class that the data set does not have."""
    created_classes: list[str] = []


def import_labels(
    workspace: Workspace,
    dataset_id: int,
    file: str | Path,
    as_: As = "suggestions",
    annotator: str = "import",
    *,
    create_classes: bool = False,
    label_column: str = "",
    progress: Callable[[float, str], object] = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
) -> LabelImport:
    """Take in the labels of a table, a COCO file, a folder with a folder per class, or a ZIP file of one.

    Images are recognised by their content (SHA-256) if the file tells it, otherwise by name: one path must be the end
    of the other, and a name that fits several images is refused. What cannot be used is told row by row, the rest
    comes in.
    The same file twice adds nothing; a changed file adds what changed, and its word is the newest. A column such as
    “probability” (0 to 1, or percent) is kept with each suggestion. The log that an export has with it (decisions.csv,
    or inside a COCO file) gives back the suggestions that it holds, with their sources and probabilities.

    Args:
        as_: `labels` count until a reader says something; `suggestions` never count.
        annotator: whose labels these are, where the file does not say that itself.
        create_classes: whether classes that the data set lacks are added to it.
        label_column: of a table; guessed where empty.

    Raises:
        DataError: the file cannot be read, or there is no such data set.
        ConfigError: `as_` is neither.
    """
    if as_ not in ("suggestions", "labels"):
        raise ConfigError(f"Labels cannot be taken in as “{as_}”.", "Choose suggestions or labels.")
    reader = reader_name(annotator)
    known = Recogniser(workspace, dataset_id)
    place = Path(file).expanduser()
    try:
        with unpacked(place, check_cancelled) as inside:
            said = _wanted(read_label_file(inside, label_column), as_, place)
            report = LabelImport(rows=len(said))
            found = _recognised(said, known, report, progress, check_cancelled)
    except OSError as error:
        raise DataError(
            f"“{clean(place.name)}” could not be unpacked: the disk for temporary files is full, or cannot be written.",
            "Free some space, or unpack it yourself and import the folder.",
            str(error),
        ) from error
    if create_classes:
        report.created_classes = _add_classes(workspace, dataset_id, known, found)
    labels = _decided(found, known, report, reader)
    _keep(workspace, dataset_id, labels, as_, place, report, progress, check_cancelled)
    return report


def _wanted(said: list[Said], as_: As, place: Path) -> list[Said]:
    """Without what the log of an export has as suggestions, where labels are asked for."""
    found = [each for each in said if as_ == "suggestions" or not each.suggested]
    if not found:
        raise DataError(
            f"“{clean(place.name)}” is the log of an export: it holds suggestions, but no table of labels.",
            "Take it in as suggestions, or choose labels.csv or metadata.csv beside it.",
        )
    return found


class _Label(NamedTuple):
    """What a source says of an image."""

    sample_id: int
    source: str
    class_id: int
    probability: float | None


def _keep(
    workspace: Workspace,
    dataset_id: int,
    labels: Sequence[_Label],
    as_: As,
    place: Path,
    report: LabelImport,
    progress: Callable[[float, str], object],
    check_cancelled: Callable[[], object],
) -> None:
    """Write them into the log; those that it has already are left out."""
    verdict = Verdict.LABEL if as_ == "labels" else Verdict.SUGGESTION
    before = _imported_before(workspace, dataset_id, verdict)
    for start in range(0, len(labels), _TOGETHER):
        check_cancelled()
        progress(0.5 + 0.5 * start / len(labels), f"{start:,} of {len(labels):,} labels")
        receipts = record_all(
            workspace,
            [_entry(dataset_id, each, verdict, place, before) for each in labels[start : start + _TOGETHER]],
        )
        report.already += sum(receipt.doubled for receipt in receipts)
        report.added += sum(not receipt.doubled for receipt in receipts)
    report.images = len({each.sample_id for each in labels})


def _entry(
    dataset_id: int, label: _Label, verdict: Verdict, place: Path, before: dict[tuple[int, str], tuple[int, object]]
) -> Entry:
    share = {} if label.probability is None else {"probability": label.probability}
    row, known_share = before.get((label.sample_id, folded(label.source)), (None, None))
    return Entry(
        dataset_id=dataset_id,
        sample_id=label.sample_id,
        annotator=label.source,
        verdict=verdict,
        class_id=label.class_id,
        event=str(uuid.uuid4()),
        seen=row if known_share != label.probability else None,  # the same class, but now more or less surely
        occasion=Occasion.IMPORT,
        aids={"file": clean(place.name), **share},
    )


def _imported_before(
    workspace: Workspace, dataset_id: int, verdict: Verdict
) -> dict[tuple[int, str], tuple[int, object]]:
    """(image, folded source) -> the newest row of earlier imports, and the probability in it."""
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    query = select(Annotation.id, Annotation.sample_id, Annotation.annotator, Annotation.aids).where(
        of_dataset, Annotation.verdict == verdict, Annotation.occasion == Occasion.IMPORT
    )
    with workspace.session() as session:
        rows = session.execute(query.order_by(Annotation.id)).all()
    return {(sample, folded(source)): (row, aids.get("probability")) for row, sample, source, aids in rows}


def _recognised(
    said: Sequence[Said],
    known: Recogniser,
    report: LabelImport,
    progress: Callable[[float, str], object],
    check_cancelled: Callable[[], object],
) -> list[tuple[Said, list[int]]]:
    """What is said of which images; the rest is refused."""
    found = []
    for number, each in enumerate(said):
        check_cancelled()
        progress(0.5 * number / len(said), f"{number:,} of {len(said):,} rows")
        samples = known.find(each) if each.label or each.refused else []
        if isinstance(samples, str):
            _refuse(report, each, samples)
        elif samples:
            found.append((each, samples))
        else:
            report.blank += 1
    return found


def _add_classes(
    workspace: Workspace, dataset_id: int, known: Recogniser, found: Iterable[tuple[Said, list[int]]]
) -> list[str]:
    wanted = [name for name in dict.fromkeys(each.label for each, _ in found) if known.find_class(name) is None]
    check_class_count(len(known.classes) + len(wanted))
    for name in wanted:
        if known.find_class(name) is None:  # two spellings of one new name
            known.classes[name] = add_class(workspace, dataset_id, name).id
    return [name for name in wanted if name in known.classes]


def _decided(
    found: Iterable[tuple[Said, list[int]]], known: Recogniser, report: LabelImport, reader: str
) -> list[_Label]:
    """What is said of every image of which a source says one thing."""
    of_image: dict[tuple[int, str], list[tuple[Said, int]]] = defaultdict(list)
    unknown: Counter[str] = Counter()
    for each, samples in found:
        class_id = known.find_class(each.label)
        if class_id is None:
            unknown[each.label] += 1
            _refuse(report, each, UNKNOWN_CLASS)
            continue
        report.unclear += each.unclear
        for sample in samples:
            of_image[sample, _source(each, reader)].append((each, class_id))
    report.unknown_classes = dict(unknown.most_common(SHOWN))
    labels: list[_Label] = []
    contradicting: dict[str, Said] = {}
    for (sample, source), told in of_image.items():
        if len({class_id for _, class_id in told}) == 1:
            said, class_id = told[0]
            labels.append(_Label(sample, source, class_id, said.probability))
        else:
            contradicting |= {each.where: each for each, _ in told}
    for each in contradicting.values():
        _refuse(report, each, CONTRADICTION)
    return labels


def _source(said: Said, reader: str) -> str:
    """Whose word it is: as the file says, if that can be a name."""
    try:
        return reader_name(said.source)
    except DataError:
        return reader


def _refuse(report: LabelImport, said: Said, reason: str) -> None:
    report.refused += 1
    report.reasons[reason] = report.reasons.get(reason, 0) + 1
    if len(report.refused_rows) < SHOWN:
        image = clean(said.names[0])[:300] if said.names else said.sha256[:64]
        report.refused_rows.append(RefusedRow(where=said.where, image=image, label=said.label[:200], reason=reason))


def explain(report: LabelImport) -> list[str]:
    """The report in sentences, the most important first."""
    lines = [f"{report.added:,} images labelled, {report.already:,} were known already."]
    if report.blank:
        lines.append(f"{report.blank:,} rows say nothing.")
    lines += [f"{count:,} rows were refused: {reason}." for reason, count in report.reasons.items()]
    if report.unclear:
        lines.append(f"{report.unclear:,} rows have a probability that is no number between 0 and 1: taken without it.")
    if report.unknown_classes:
        names = ", ".join(f"“{name}” ({count:,})" for name, count in list(report.unknown_classes.items())[:20])
        lines.append(f"Classes that the data set does not have: {names}. Add them, or let the import create them.")
    if report.created_classes:
        lines.append(f"New classes: {', '.join(f'“{name}”' for name in report.created_classes)}.")
    return lines
