"""Names that come from file systems and tables: made safe to keep, compare and write."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_KEPT_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners that Persian, Indic scripts and emoji need
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(1, 10))}


def clean(text: str) -> str:
    """`text` in Unicode's composed form (NFC), without control and direction characters, blanks collapsed.

    Slashes, quotes and angle brackets stay: a name is text, and whoever shows it escapes it.
    """
    kept = (
        " " if category == "Cc" else "" if category in ("Cf", "Cs") and c not in _KEPT_FORMAT_CHARACTERS else c
        for c in unicodedata.normalize("NFC", text)
        for category in (unicodedata.category(c),)
    )
    return " ".join("".join(kept).split())


def shorten(text: str, length: int) -> str:
    """`text` in at most `length` characters; a shortened one ends in a hash, so that different texts stay different."""
    if len(text) <= length:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[: length - 9]}…{digest}"


def is_text(name: str) -> bool:
    """Whether a file name is valid text (Linux allows names that are not)."""
    return name.isprintable() or not any(0xD800 <= ord(c) <= 0xDFFF for c in name)


def class_order(names: Iterable[str]) -> list[str]:
    """`names` sorted: as numbers where all are whole numbers, otherwise by code point, as `ImageFolder` sorts."""
    found = set(names)
    if all(re.fullmatch(r"[+-]?\d{1,18}", name) for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)


def file_name(text: str, fallback: str = "unnamed") -> str:
    """`text` as a file or folder name that Windows, macOS and Linux all accept."""
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", clean(text))
    safe = shorten(safe, 80).strip(" .") or fallback
    return f"_{safe}" if safe.split(".")[0].lower() in _RESERVED else safe


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or `wanted (2)`, `wanted (3)`, … where that is taken (letters' case does not count)."""
    used = {name.casefold() for name in taken}
    name, number = wanted, 1
    while name.casefold() in used:
        number += 1
        name = f"{wanted} ({number})"
    return name


def spreadsheet_safe(cell: str) -> str:
    """A cell that no spreadsheet program takes for a formula; `plain_cell` undoes it."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def plain_cell(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@", "\t", "\r") else cell
