"""How numbers, sizes and times are said, in the workbench and in reports."""

from __future__ import annotations

from datetime import datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def percent(fraction: float | None) -> str:
    """0.9123 -> "91.2%"; nothing known -> "–"."""
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def number(value: int) -> str:
    """100000 -> "100,000"."""
    return f"{value:,}"


def counted(value: int, thing: str, things: str = "") -> str:
    """(1, "image") -> "1 image"; (2100, "image") -> "2,100 images"; (2, "class", "classes") -> "2 classes"."""
    return f"{value:,} {thing if value == 1 else things or thing + 's'}"


def duration(seconds: float) -> str:
    """42 -> "42 s", 200 -> "3 min", 5400 -> "1 h 30 min". No raw seconds beyond 90."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def time_left(seconds: float | None) -> str:
    """ "3 min left", or nothing where it is not known."""
    return "" if seconds is None else f"{duration(seconds)} left"


def moment(time: datetime | None) -> str:
    """ "12 Nov, 14:05" in the computer's own time zone; with the year where it is not this one."""
    if time is None:
        return ""
    local = time.astimezone()
    year = "" if local.year == datetime.now().astimezone().year else f" {local.year}"
    return f"{local.day} {MONTHS[local.month - 1]}{year}, {local:%H:%M}"


def size(count: int) -> str:
    """Bytes in MB or GB: "12.4 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def today() -> str:
    """ "12 Nov 2026" in the computer's own time zone."""
    now = datetime.now().astimezone()
    return f"{now.day} {MONTHS[now.month - 1]} {now.year}"
