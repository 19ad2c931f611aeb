"""Two results image by image: the sentence on chance, the images on which they differ, one image opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from app.components.compare import Compared, Seed
from app.components.compare_figures import name_at
from app.components.gallery import pager, thumbnail_url
from app.components.html import Html, action, join, notice, tag
from app.components.words import counted, number
from engines.data import thumbnail_path
from engines.inspection.agreement import Difference, counted_pair, difference, matrix
from engines.inspection.answers import Answers
from engines.store import Sample, Workspace

PAGE_SIZE = 12
CLEAR = 0.05


def pair_sentence(first: Compared, second: Compared, seeds: Sequence[Seed]) -> Html:
    """Whether one of two results is better, and whether that can be chance, in words (McNemar's test)."""
    found = counted_pair(seeds[0].first, seeds[0].second) if seeds else None
    if found is None:
        what = "These two were not tested on the same images, so they cannot be compared image by image."
        return notice("info", what, "Compare results of the same data set and protocol that share a seed.")
    one, other, one_only, other_only = first, second, found.first_only, found.second_only
    if one_only < other_only:
        one, other, one_only, other_only = other, one, other_only, one_only
    gain = difference([(s.second, s.first) if one is first else (s.first, s.second) for s in seeds])
    more, doubtful = _over_seeds(one, gain, len(seeds))
    rest = f"Both right on {number(found.both)}, both wrong on {number(found.neither)}."
    which = f"This is seed {seeds[0].number}. " if len(seeds) > 1 else ""
    if one_only == other_only:
        what = f"“{one.name}” and “{other.name}” got equally many of {counted(found.images, 'image')} right."
        differ = f"On {number(2 * one_only)} they differ, half of them each way. " if one_only else ""
        return notice("info", what, f"{differ}{rest} {which}{more}")
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    chance = "this difference would be surprising by chance"
    if found.p_value >= CLEAR:
        chance = "a difference like this may well be chance"
    what = (
        f"“{one.name}” is better than “{other.name}” on {number(one_only)} of {counted(found.images, 'image')},"
        f" worse on {number(other_only)}; {chance}, {p}."
    )
    sure = found.p_value < CLEAR and not doubtful
    return notice("good" if sure else "info", what, f"{rest} {which}{more}")


def _over_seeds(better: Compared, gain: Difference | None, seeds: int) -> tuple[str, bool]:
    """The gain of the better one over all paired seeds with its interval over images, and whether seeds leave doubt."""
    if gain is None:
        return "", False
    over = f"Over {seeds} seeds" if seeds > 1 else "In all"
    more = "more" if gain.value >= 0 else "fewer"
    told = f"between {100 * gain.low:+.1f} and {100 * gain.high:+.1f} with 95% confidence"
    said = f"{over}, “{better.name}” gets {abs(100 * gain.value):.1f} points {more} right ({told})."
    doubtful = seeds > 1 and gain.low <= 0
    return f"{said} So it depends on the seed, on the labelled images drawn." if doubtful else said, doubtful


# --- the images ---------------------------------------------------------------


def samples_by_id(workspace: Workspace, ids: Sequence[int]) -> dict[int, Sample]:
    """Images that are still there."""
    found: dict[int, Sample] = {}
    with workspace.session() as session:
        for start in range(0, len(ids), 500):  # data bases take a limited number of values at once
            wanted = select(Sample).where(Sample.id.in_(list(ids[start : start + 500])))
            found |= {sample.id: sample for sample in session.scalars(wanted)}
    return found


def thumbnails(workspace: Workspace, ids: Sequence[int]) -> tuple[str, dict[int, str]]:
    """(address in front of all, file by sample id) of the thumbnails."""
    folder = workspace.folder("thumbnails")
    found = samples_by_id(workspace, ids)
    files = {i: Path(thumbnail_path(workspace, s)).relative_to(folder).as_posix() for i, s in found.items()}
    return f"gradio_api/file={folder}/", files


def gallery(
    workspace: Workspace, results: Sequence[Compared], rows: Sequence[Answers], names: Sequence[str], first: int
) -> Html:
    """The images on which results differ, a page of them. Actions: `open` (a sample) and `page` (a place)."""
    both = matrix(rows)
    if both is None:
        return Html("")
    places = both.differing
    if not len(places):
        return tag("p", "They answer every test image alike.", class_="pl-quiet")
    first = max(0, min(first, (len(places) - 1) // PAGE_SIZE * PAGE_SIZE))
    chosen = places[first : first + PAGE_SIZE]
    ids = both.sample_ids[chosen].tolist()
    samples = samples_by_id(workspace, ids)
    cells = [
        _cell(workspace, samples[i], results, rows, names, i, int(both.true[place]))
        for i, place in zip(ids, chosen, strict=True)
        if i in samples
    ]
    head = tag("h3", f"{counted(len(places), 'image')} on which they do not agree")
    return tag(
        "div",
        head,
        tag("div", *cells, class_="pl-answers pl-differing"),
        pager(first, len(chosen), len(places), PAGE_SIZE) if len(places) > PAGE_SIZE else "",
    )


def _cell(
    workspace: Workspace,
    sample: Sample,
    results: Sequence[Compared],
    rows: Sequence[Answers],
    names: Sequence[str],
    sample_id: int,
    true: int,
) -> Html:
    label = name_at(names, true)
    image = tag("img", src=thumbnail_url(workspace, sample), alt=f"{label}: {sample.name}", loading="lazy")
    button = tag(
        "button",
        image,
        type="button",
        class_="pl-frame",
        data_action="open",
        data_value=sample_id,
        title=f"Look closer: {sample.name}",
    )
    said = [answer_lines(each, row, names, sample_id, true) for each, row in zip(results, rows, strict=True)]
    return tag("figure", button, tag("figcaption", tag("b", label), *said))


def answer_lines(each: Compared, row: Answers, names: Sequence[str], sample_id: int, true: int) -> Html:
    """What one result says of an image: its three most probable classes, the right one ticked."""
    place = int(row.sample_ids.searchsorted(sample_id))
    if place >= len(row.sample_ids) or row.sample_ids[place] != sample_id:
        return Html("")
    if row.top_classes is None or row.top_shares is None:
        top = [(int(row.said[place]), None)]
    else:
        top = list(zip(row.top_classes[place].tolist(), row.top_shares[place].tolist(), strict=True))
    lines = [_line(name_at(names, c), share, c == true, n == 0) for n, (c, share) in enumerate(top)]
    dot = tag("i", class_="pl-dot-method", style=f"background:{each.colour}")
    return tag("div", tag("em", dot, each.name), *lines, class_="pl-said")


def _line(name: str, share: float | None, right: bool, first: bool) -> Html:
    mark = "✓" if right else "✗" if first else ""
    sure = tag("span", f"{share:.2f}", class_="num") if share is not None else ""
    return tag("span", tag("span", f"{mark} {name}".strip()), sure, class_="first" if first else None)


def opened(
    workspace: Workspace,
    sample_id: int,
    results: Sequence[Compared],
    rows: Sequence[Answers],
    names: Sequence[str],
) -> Html:
    """One image with what every result says. Actions: `close`, and `look` (a sample) for where they look."""
    sample = samples_by_id(workspace, [sample_id]).get(sample_id)
    if sample is None:
        return notice("info", "This image is no longer in the workspace.", "Choose another one.")
    true = next(
        (int(r.true[r.sample_ids == sample_id][0]) for r in rows if bool((r.sample_ids == sample_id).any())), -1
    )
    said = [answer_lines(each, row, names, sample_id, true) for each, row in zip(results, rows, strict=True)]
    title = name_at(names, true)
    buttons = join(
        [
            action("Where they look", "look", sample_id, "small"),
            action("Close", "close", "", "small quiet"),
        ]
    )
    image = tag("img", src=thumbnail_url(workspace, sample), alt=f"{title}: {sample.name}")
    return tag(
        "aside",
        tag("div", tag("strong", title), tag("span", buttons, class_="pl-buttons"), class_="pl-row"),
        tag(
            "div",
            tag("div", tag("div", image, class_="pl-frame"), tag("p", sample.name, class_="pl-quiet")),
            tag("div", *said, class_="pl-says"),
            class_="pl-opened",
        ),
        class_="pl-card",
        aria_label="The chosen image",
    )
