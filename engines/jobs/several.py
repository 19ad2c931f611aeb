"""Jobs that look into several runs one after the other: one that fails does not cost the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engines.errors import PromptloupeError
from engines.jobs.context import JobContext

Look = Callable[[str, Callable[[float, str], None]], object]
"""Looks into one run; is given its id and where to tell the share done and a message."""


def look_into_runs(job: JobContext, run_ids: Sequence[str], called: str, look: Look) -> dict[str, Any]:
    """`{"done": run ids, "failed": {run id: why}}`.

    Args:
        called: what a run is called in the progress, such as "Prompt".

    Raises:
        PromptloupeError: no run could be looked into; of a single run its own error.
    """
    done: list[str] = []
    failed: dict[str, str] = {}
    count = len(run_ids)
    for place, run_id in enumerate(run_ids):

        def tell(fraction: float, message: str, place: int = place) -> None:
            of = f"{called} {place + 1} of {count}: " if count > 1 else ""
            job.progress((place + fraction) / count, of + message)

        job.check_cancelled()
        try:
            look(run_id, tell)
            done.append(run_id)
        except PromptloupeError as error:
            if count == 1:
                raise
            failed[run_id] = str(error)
    if not done:
        raise PromptloupeError("None of these runs could be looked into.", next(iter(failed.values())))
    return {"done": done, "failed": failed}
