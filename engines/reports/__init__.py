"""Reports: results told in words, figures and pictures, in files that need nothing else. Imports no torch.

`write_report(workspace, results)` writes one HTML file; `make_slides(…)` gives the same as pages for a meeting. Both
take the keys of experiments (or ids of runs), or the data set of a labelling study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.store import Workspace


def write_report(
    workspace: Workspace, results: Sequence[str] = (), dataset_id: int | None = None, title: str = ""
) -> Path:
    """Write a report into the workspace's exports; returns the file.

    Args:
        results: up to six keys of experiments or ids of runs, of the same data set.
        dataset_id: in their place the data set of a labelling study.
        title: in the place of the report's own.

    Raises:
        ConfigError: a result does not exist or is not done, or they do not fit together.
        DataError: the data set does not exist, or nobody has labelled any of it.
    """
    from engines.reports.document import document, write
    from engines.reports.of_labelling import report_of_labelling
    from engines.reports.of_results import report_of_results

    report = report_of_results(workspace, results) if dataset_id is None else report_of_labelling(workspace, dataset_id)
    if title:
        report = replace(report, title=title)
    return write(workspace, document(report), report.kind.lower().replace(" ", "-"), report.title)


def make_slides(
    workspace: Workspace, results: Sequence[str] = (), dataset_id: int | None = None, title: str = ""
) -> str:
    """The same as slides: a whole HTML page. Arguments and errors as for `write_report`."""
    from engines.reports.slides import slides_of_labelling, slides_of_results

    if dataset_id is None:
        return slides_of_results(workspace, results, title)
    return slides_of_labelling(workspace, dataset_id, title)
