"""The limits of a result, in plain words: what a careful colleague would ask about. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from engines.reports.data_facts import DataFacts
from engines.reports.results import Result
from engines.reports.sentences import wilson
from engines.reports.words import counted, percent

SMALL_TEST, SMALL_CLASS, UNEVEN = 100, 10, 5
ELSEWHERE = ("cross-dataset", "domain-generalisation", "zero-shot-anomaly")
"""Protocols that test on images from elsewhere."""
NOT_FOR_DIAGNOSIS = "Not for diagnosis or any other decision about a person."


def limits(results: Sequence[Result], data: DataFacts | None) -> list[str]:
    """A sentence for each limit, those that matter most first."""
    first = results[0]
    found = [
        *_patients(data),
        *_few_images(first),
        *_few_seeds(results),
        *_unlike(results),
        *_source(first, data),
        *_classes(first),
    ]
    notes = [note for each in results for run in each.runs for note in run.summary.get("notes", [])]
    if any(run.backbone == "mini-clip" for each in results for run in each.runs):
        found.append(
            "The model is the small one that comes with the program, made from synthetic images: what it shows of a"
            " method can be believed, its numbers on real images cannot."
        )
    return [*dict.fromkeys([*found, *notes]), NOT_FOR_DIAGNOSIS]


def _patients(data: DataFacts | None) -> list[str]:
    if data is None:
        return ["The data set is no longer in the workspace, so its images could not be counted again."]
    if data.shared_groups:
        return [
            f"{counted(data.shared_groups, 'patient or slide', 'patients or slides')} have images both to learn from"
            " and to test on: the result is probably too good for images of people whom the prompt has never seen."
        ]
    if not data.groups:
        return [
            "The images do not say which patient or slide they are from, so images of one may be among those to learn"
            " from and those to test on, which would make the result look too good."
        ]
    return []


def _few_images(result: Result) -> list[str]:
    images, found = result.images, result.interval()
    if not images or found is None:
        return ["There was no labelled image left to test on: nothing is known about how good this is."]
    if images >= SMALL_TEST:
        return []
    low, high = wilson(found.value * images, images)
    return [
        f"Only {counted(images, 'test image')}: {percent(found.value)} of so few is compatible with anything from"
        f" {percent(low)} to {percent(high)}."
    ]


def _few_seeds(results: Sequence[Result]) -> list[str]:
    once = [each.name for each in results if each.trains and len(each.runs) == 1]
    if not once:
        return []
    who = f"“{once[0]}” was" if len(once) == 1 else f"{len(once)} of the results were"
    return [f"{who} trained once (one seed): another draw of labelled images may give another result."]


def _unlike(results: Sequence[Result]) -> list[str]:
    """What else but the method differs between results that are compared."""
    learned = [each.runs[0] for each in results if each.trains]
    found = []
    shots = sorted({run.shots or 0 for run in learned})
    if len(shots) > 1:
        listed = " and ".join(f"{n:,}" if n else "all" for n in shots)
        found.append(
            f"The results learned from different numbers of labelled images ({listed} per class): not all of a"
            " difference is the method’s."
        )
    if len({run.backbone for run in learned}) > 1:
        found.append("The results use different models: not all of a difference is the method’s.")
    if len(results) > 2:
        found.append(
            "Several pairs were tested for chance, each by itself: among many pairs, one may look surprising by luck."
        )
    return found


def _source(result: Result, data: DataFacts | None) -> list[str]:
    if result.runs[0].protocol in ELSEWHERE:
        return []
    domains = f" ({data.domains} sites, scanners or stains)" if data and data.domains > 1 else ""
    return [
        f"The test images come from the same source as the images to learn from{domains}: other sites, devices or"
        " stains may give other results."
    ]


def _classes(result: Result) -> list[str]:
    counts = result.class_counts()
    names = {
        *result.runs[0].summary.get("class_names", []),
        *result.runs[0].summary.get("new", {}).get("class_names", []),
    }
    untested = sorted(names - set(counts))
    few = sorted((name for name, count in counts.items() if count < SMALL_CLASS), key=lambda name: counts[name])
    found = []
    if untested:
        found.append(f"{_some(untested)} without any test image: nothing is known about {_them(untested)}.")
    if few:
        rest = "its number is rough" if len(few) == 1 else "their numbers are rough"
        found.append(f"{_some(few)} with fewer than {SMALL_CLASS} test images: {rest}.")
    if counts and max(counts.values()) >= UNEVEN * max(1, min(counts.values())):
        largest = max(counts, key=lambda name: counts[name])
        found.append(
            f"The test images are uneven: “{largest}” has {counts[largest]:,} of {sum(counts.values()):,}, so the share"
            " of right answers says most about the frequent classes. Look at each class, too."
        )
    return found


def _some(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"One class is (“{names[0]}”)"
    shown = ", ".join(f"“{name}”" for name in names[:3])
    return f"{len(names)} classes are ({shown}{' …' if len(names) > 3 else ''})"


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
