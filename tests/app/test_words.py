"""Numbers and times as the workbench says them."""

from __future__ import annotations

from datetime import datetime

import pytest

from app.components.words import counted, duration, moment, percent, size, time_left


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (42, "42 s"), (89, "89 s"), (90, "2 min"), (200, "3 min"), (3600, "1 h"), (5400, "1 h 30 min")],
)
def test_durations_have_no_raw_seconds_beyond_ninety(seconds: float, words: str) -> None:
    assert duration(seconds) == words
    assert time_left(seconds) == f"{words} left"


def test_unknown_times_and_shares_say_so() -> None:
    assert (time_left(None), moment(None), percent(None)) == ("", "", "–")
    assert duration(4 * 86400) == "4 days"


def test_moments_name_the_year_only_where_it_is_another() -> None:
    this_year = datetime.now().astimezone().replace(month=11, day=12, hour=14, minute=5)
    assert moment(this_year) == "12 Nov, 14:05"
    assert moment(this_year.replace(year=2019)) == "12 Nov 2019, 14:05"


def test_counts_percentages_and_sizes() -> None:
    assert (counted(1, "image"), counted(2100, "image")) == ("1 image", "2,100 images")
    assert counted(2, "class", "classes") == "2 classes"
    assert percent(0.9123) == "91.2%"
    assert (size(12_400_000), size(2_600_000_000)) == ("12.4 MB", "2.6 GB")
