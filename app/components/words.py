"""How the workbench says numbers, sizes and times: as its reports do."""

from engines.reports.words import (
    MONTHS,
    counted,
    duration,
    moment,
    number,
    percent,
    size,
    time_left,
)

__all__ = [
    "MONTHS",
    "counted",
    "duration",
    "moment",
    "number",
    "percent",
    "size",
    "time_left",
]
