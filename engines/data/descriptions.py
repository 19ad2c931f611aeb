"""Sentences that describe the classes of a data set: taken from a file, written to one, put back as they were.

Nothing here writes sentences by itself, and nothing is sent anywhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from engines.data.description_files import Named
from engines.data.names import clean
from engines.errors import DataError
from engines.files import write_whole
from engines.store import Dataset, LabelClass, Workspace

LONGEST_SENTENCE = 1000
MOST_SENTENCES = 1000
"""Of one class."""


class DescriptionReport(BaseModel):
    """What became of the sentences of a file."""

    added: dict[str, int] = Field(default_factory=dict)
    """Class to the number of sentences that it did not have before."""
    repeated: int = 0
    """Sentences that were there already, or twice in the file."""
    unknown: dict[str, int] = Field(default_factory=dict)
    """Names in the file that no class has, with the number of their sentences; these were not taken."""
    ambiguous: dict[str, list[str]] = Field(default_factory=dict)
    """Names in the file that fit several classes, with these; they were not taken."""
    merged: dict[str, list[str]] = Field(default_factory=dict)
    """Classes that the file names several times, with the ways it does."""
    too_long: dict[str, int] = Field(default_factory=dict)
    """Class to the number of its sentences that were too long or too many, and not taken."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Class to the number of its former sentences that were replaced."""
    undescribed: list[str] = Field(default_factory=list)
    """Classes that have no sentence now."""
    before: dict[str, list[str]] = Field(default_factory=dict)
    """Former sentences of the classes that were changed: `set_descriptions` with these undoes the import."""

    def lines(self) -> list[str]:
        """The report in sentences, the most important first."""
        count = sum(self.added.values())
        said = [f"{_counted(count, 'sentence')} for {_counted(len(self.added), 'class', 'classes')} came in."]
        if self.dropped:
            said.append(f"{_counted(sum(self.dropped.values()), 'former sentence')} gave way.")
        if self.unknown:
            said.append(f"Not taken, because no class is called so: {_listed(self.unknown)}.")
        for name, classes in self.ambiguous.items():
            said.append(f"Not taken, because “{name}” may mean {_listed(classes)}: write it as the class is written.")
        for name, ways in self.merged.items():
            said.append(f"“{name}” is in the file several times, which was put together: {_listed(ways)}.")
        if self.repeated:
            said.append(f"{_counted(self.repeated, 'sentence')} came more than once and count once.")
        if self.too_long:
            said.append(
                f"Not taken, because longer than {LONGEST_SENTENCE:,} characters or more than {MOST_SENTENCES:,} for a"
                f" class: {_counted(sum(self.too_long.values()), 'sentence')} of {_listed(self.too_long)}."
            )
        if self.undescribed:
            said.append(f"Still without a description: {_listed(self.undescribed)}.")
        return said


def import_descriptions(
    workspace: Workspace, dataset_id: int, named: Named, replace: bool = False
) -> DescriptionReport:
    """Give the classes of a data set the sentences of a file, behind those they have or (`replace`) in place of them.

    Names are matched exactly where they can be, otherwise without regard to case, blanks, hyphens and underscores.
    Classes that `named` leaves out, or for which it has no usable sentence, stay as they are; an empty list under
    `replace` empties its class.

    Raises:
        DataError: there is no such data set, or none of the names is one of its classes.
    """
    report = DescriptionReport()
    with workspace.session() as session:
        dataset = _dataset(session, dataset_id)
        by_name = {each.name: each for each in dataset.classes}
        matched = _matched(list(by_name), named, report)
        for name, (ways, sentences) in matched.items():
            if len(ways) > 1:
                report.merged[name] = ways
            _describe(by_name[name], sentences, replace, report)
        if not matched:
            names = _listed(name for name, _ in named)
            raise DataError(
                f"None of the names in the file is a class of “{dataset.name}”: it names {names}.",
                f"The classes are {_listed(by_name)}. Blanks, underscores and capitals do not matter.",
            )
        report.undescribed = [each.name for each in dataset.classes if not each.descriptions]
    return report


def write_descriptions(workspace: Workspace, dataset_id: int, file: Path) -> dict[str, int]:
    """Write the sentences of all classes, in label order, as JSON that `read_descriptions` reads; returns their number.

    Raises:
        DataError: there is no such data set, or the file cannot be written.
    """
    with workspace.session() as session:
        found = {each.name: list(map(str, each.descriptions)) for each in _dataset(session, dataset_id).classes}
    if not file.parent.is_dir():
        raise DataError(f"“{file.name}” cannot be written.", "Choose another folder.", f"{file.parent} is not there")
    try:
        write_whole(file, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise DataError(f"“{file.name}” cannot be written.", "Choose another folder.", str(error)) from error
    return {name: len(sentences) for name, sentences in found.items()}


def set_descriptions(workspace: Workspace, dataset_id: int, sentences: Mapping[str, Sequence[str]]) -> None:
    """Give classes exactly these sentences; classes that are not named stay as they are.

    Raises:
        DataError: there is no such data set.
    """
    with workspace.session() as session:
        for each in _dataset(session, dataset_id).classes:
            if each.name in sentences:
                each.descriptions = list(sentences[each.name])


def tidy(lines: Iterable[str]) -> list[str]:
    """Sentences without superfluous blanks, empty and repeated ones.

    Raises:
        DataError: one is longer than 1,000 characters, or there are more than 1,000.
    """
    found = list(dict.fromkeys(filter(None, map(clean, lines))))
    for sentence in found:
        if len(sentence) > LONGEST_SENTENCE:
            raise DataError(
                f"This sentence is longer than {LONGEST_SENTENCE:,} characters: “{sentence[:60]}…”",
                "Divide it; one sentence a line.",
            )
    if len(found) > MOST_SENTENCES:
        raise DataError(f"A class may have {MOST_SENTENCES:,} sentences; these are {len(found):,}.", "Choose the best.")
    return found


def _dataset(session: Any, dataset_id: int) -> Dataset:
    dataset: Dataset | None = session.get(Dataset, dataset_id)
    if dataset is None or dataset.deleted_at is not None:
        raise DataError("This data set no longer exists.", "Choose another one.")
    return dataset


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", clean(name)).strip().casefold()


def _matched(classes: Sequence[str], named: Named, report: DescriptionReport) -> dict[str, tuple[list[str], list[str]]]:
    """Class to (how the file calls it, its sentences), in label order; names that fit none or several are reported."""
    known, alike = set(classes), defaultdict[str, list[str]](list)
    for name in classes:
        alike[_key(name)].append(name)
    found: dict[str, tuple[list[str], list[str]]] = {}
    unknown: Counter[str] = Counter()
    for written, sentences in named:
        shown = clean(written)
        meant = [shown] if shown in known else alike.get(_key(written), [])
        if len(meant) == 1:
            ways, all_sentences = found.setdefault(meant[0], ([], []))
            ways.append(shown)
            all_sentences += sentences
        elif meant:
            report.ambiguous[shown] = meant
        else:
            unknown[shown[:200]] += len(sentences)
    report.unknown = dict(unknown)
    return {name: found[name] for name in classes if name in found}


def _describe(each: LabelClass, sentences: list[str], replace: bool, report: DescriptionReport) -> None:
    """Give a class its sentences, and note in the report what became of them."""
    former = list(map(str, each.descriptions))
    given = list(filter(None, map(clean, sentences)))
    fresh = list(dict.fromkeys(sentence for sentence in given if len(sentence) <= LONGEST_SENTENCE))
    kept = former if not replace or (sentences and not fresh) else []
    new = [sentence for sentence in fresh if sentence not in kept][: max(0, MOST_SENTENCES - len(kept))]
    usable = sum(len(sentence) <= LONGEST_SENTENCE for sentence in given)
    repeated = usable - sum(sentence not in kept for sentence in fresh)
    report.repeated += repeated
    if refused := len(given) - repeated - len(new):
        report.too_long[each.name] = refused
    each.descriptions = [*kept, *new]
    if each.descriptions != former:
        report.before[each.name] = former
    if added := sum(sentence not in former for sentence in new):
        report.added[each.name] = added
    if gone := sum(sentence not in each.descriptions for sentence in former):
        report.dropped[each.name] = gone


def _counted(value: int, thing: str, things: str = "") -> str:
    return f"{value:,} {thing if value == 1 else things or thing + 's'}"


def _listed(names: Iterable[str], most: int = 8) -> str:
    found = list(dict.fromkeys(names))
    shown = ", ".join(f"“{clean(name)[:60]}”" for name in found[:most])
    return shown + (f" and {len(found) - most:,} more" if len(found) > most else "")
