"""Who reads. Names that differ only in case, blanks or Unicode form are one reader, spelt as they were at first.

The log keeps every row as it was written: a name is matched when it enters the program, not in what is there already.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

from sqlalchemy import func, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from engines.store.models import Annotation
from engines.store.workspace import Workspace

_BLANKS = re.compile(r"[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")


def tidy(name: str) -> str:
    """A name in Unicode's composed form (NFC), without blanks around it, and with one plain blank between words."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


def folded(name: str) -> str:
    """What all spellings of a name have in common: Unicode's caseless matching of compatible forms (NFKC)."""
    compatible = unicodedata.normalize("NFKC", name).casefold()
    return tidy(unicodedata.normalize("NFKC", compatible))


@dataclass
class _Spellings:
    """Spellings by folded name, in order of their first row, as far as the log was read."""

    newest: int = 0
    known: dict[str, list[str]] = field(default_factory=dict)


_of_workspace: WeakKeyDictionary[Engine | Connection, _Spellings] = WeakKeyDictionary()
_lock = Lock()


def spellings(session: Session, name: str) -> list[str]:
    """How a reader is spelt in the log of the workspace, the first spelling first; empty for somebody new.

    More than one are of the time before names were matched.
    """
    with _lock:
        read = _of_workspace.setdefault(session.get_bind(), _Spellings())
        newest = session.scalar(select(func.max(Annotation.id))) or 0
        if newest < read.newest:  # rows went with the data set that they were about
            read.newest, read.known = 0, {}
        if newest > read.newest:
            query = select(Annotation.annotator).where(Annotation.id > read.newest)
            for spelt in session.scalars(query.group_by(Annotation.annotator).order_by(func.min(Annotation.id))):
                same = read.known.setdefault(folded(spelt), [])
                if spelt not in same:
                    same.append(spelt)
            read.newest = newest
        return list(read.known.get(folded(name), []))


def first_spelling(session: Session, name: str) -> str:
    """The name as this workspace spelt it at first; tidied where it is new. Call it before adding rows."""
    return next(iter(spellings(session, name)), tidy(name))


def first_spellings(session: Session, names: Iterable[str]) -> dict[str, str]:
    """`first_spelling` of each name; of several spellings that are new the first counts."""
    spelt: dict[str, str] = {}
    found = {}
    for name in dict.fromkeys(names):
        found[name] = spelt.setdefault(folded(name), first_spelling(session, name))
    return found


def known_as(workspace: Workspace, name: str) -> str:
    """`first_spelling`, for names as they are typed; empty for an empty one."""
    if not tidy(name):
        return ""
    with workspace.session() as session:
        return first_spelling(session, name)
