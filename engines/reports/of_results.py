"""The report of one result, and of several side by side. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from engines.reports import pieces
from engines.reports.data_facts import data_facts
from engines.reports.limits import limits
from engines.reports.markup import join, tag
from engines.reports.pieces import Report, Section
from engines.reports.results import Result, best_two, difference_sentence, find_results
from engines.reports.sentences import calibration_sentence, result_sentence, verdict
from engines.reports.words import counted
from engines.store import Workspace

DATA, ASKED, METHOD, RESULT = "The images", "What was asked", "How it was done", "What came out"
CLASSES, IMAGES, LIMITS, AGAIN = "Class by class", "Images", "The limits of this result", "To do it again"


def report_of_results(workspace: Workspace, keys: Sequence[str]) -> Report:
    """A report of one result (an experiment with all its seeds, or one run), or of up to six side by side.

    Raises:
        ConfigError: a result does not exist or is not done, or there are too many.
    """
    results = find_results(workspace, keys)
    return _of_one(workspace, results[0]) if len(results) == 1 else _of_several(workspace, results)


def sentences(result: Result) -> list[str]:
    """What came out, and whether it can be chance."""
    title = result.entry.title if result.entry else result.runs[0].method
    summaries = [run.summary for run in result.runs]
    return [s for s in (result_sentence(title, result.trains, summaries), verdict(result.trains, summaries)[1]) if s]


def best_sentence(results: Sequence[Result]) -> str:
    """Which is best, and how many each got right."""
    ranked = sorted(results, key=lambda each: -(found.value if (found := each.interval()) else -1.0))
    first, *others = [f"“{each.name}” {pieces.share(each.interval())}" for each in ranked]
    return f"Best is {first}; then {', '.join(others)}."


def _of_one(workspace: Workspace, result: Result) -> Report:
    data = data_facts(workspace, result.runs[0].dataset_id)
    beside = pieces.with_ready_made([result])
    said = sentences(result)
    figures = [pieces.score_bars(beside), pieces.numbers_table(beside), pieces.targets_table(result)]
    wrong, right = pieces.answer_images(workspace, result)
    bins = result.summary.get("reliability", [])
    sections = [
        Section(ASKED, tag("p", pieces.question([result], data))),
        Section(DATA, join([tag("p", pieces.data_sentence(data, [result])), pieces.data_table(data) if data else ""])),
        Section(METHOD, pieces.method_words([result])),
        Section(RESULT, join([pieces.paragraphs(said[1:]), *figures])),
        Section(
            CLASSES,
            join([pieces.class_figure(beside), pieces.titled("What was taken for what", pieces.confusion(result))]),
        ),
        Section(
            "How sure it is",
            join([tag("p", calibration_sentence(result.summary["ece"], bins)), pieces.calibration(result)])
            if bins
            else tag("p", "This was not measured."),
        ),
        Section(
            IMAGES,
            join(
                [
                    pieces.titled(
                        "Images it got wrong, of each kind of mistake the surest", wrong or tag("p", "None.")
                    ),
                    pieces.titled("Images it got right", right or tag("p", "None.")),
                ]
            ),
        ),
        Section(LIMITS, pieces.bullets(limits([result], data))),
        Section(AGAIN, pieces.reproducing(result)),
    ]
    return Report("Result", result.runs[0].name, said[0], sections)


def _of_several(workspace: Workspace, results: Sequence[Result]) -> Report:
    data = data_facts(workspace, results[0].runs[0].dataset_id)
    beside = pieces.with_ready_made(results)
    first, second = best_two(beside)
    differing, total = pieces.differing_images(workspace, first, second)
    pairs = [difference_sentence(workspace, first, other) for other in beside if other is not first]
    found = [pieces.score_bars(beside), pieces.numbers_table(beside), pieces.bullets(pairs)]
    where = f"{counted(total, 'image')} on which “{first.name}” and “{second.name}” do not agree; ✓ is right"
    sections = [
        Section(ASKED, tag("p", pieces.question(results, data))),
        Section(DATA, join([tag("p", pieces.data_sentence(data, results)), pieces.data_table(data) if data else ""])),
        Section(METHOD, pieces.method_words(results)),
        Section(RESULT, join(found)),
        Section(CLASSES, pieces.class_figure(beside)),
        Section(IMAGES, join([pieces.titled(where, join([pieces.key_of([first, second]), differing]))])),
        Section(LIMITS, pieces.bullets(limits(results, data))),
        Section(AGAIN, join(pieces.titled(each.name, pieces.reproducing(each)) for each in results)),
    ]
    names = f"{len(beside)} ways on “{data.name}”" if data else f"{len(beside)} ways"
    return Report("Comparison", names, best_sentence(beside), sections)
