"""Results in sentences, as in the reports: what came out, how sure one can be, and what it is compared with."""

from engines.reports.sentences import (
    Z95,
    Interval,
    calibration_sentence,
    estimate_sentence,
    interval,
    result_sentence,
    uncertainty,
    verdict,
    wilson,
)

__all__ = [
    "Z95",
    "Interval",
    "calibration_sentence",
    "estimate_sentence",
    "interval",
    "result_sentence",
    "uncertainty",
    "verdict",
    "wilson",
]
