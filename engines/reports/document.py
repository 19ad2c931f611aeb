"""A report as one HTML file that needs nothing else: no request leaves it, and no text in it can run. Torch-free.

Its content security policy allows styles, pictures inside the file, and one script known by its hash; so even markup
that slipped through could neither fetch nor run anything.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from pathlib import Path

from engines.files import write_whole
from engines.reports.markup import Html, join, tag
from engines.reports.pieces import Report
from engines.reports.words import today
from engines.store import Workspace


def page(title: str, body: Html, styles: list[str], script: str) -> str:
    """A whole page with these styles and this script inside it (names of files in this folder)."""
    code = _text(script)
    allowed = b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", title),
            *(tag("style", Html(_text(name))) for name in styles),
        ]
    )
    whole = tag("html", tag("head", head), tag("body", body, tag("script", Html(code))), lang="en")
    return f"<!doctype html>\n{whole}\n"


def document(report: Report) -> str:
    """The report as a page to read and to print."""
    contents = tag(
        "nav", *(tag("a", s.title, href=f"#part-{n}") for n, s in enumerate(report.sections)), aria_label="Contents"
    )
    parts = [
        tag("section", tag("h2", section.title), section.body, id=f"part-{place}")
        for place, section in enumerate(report.sections)
    ]
    head = tag(
        "header",
        tag("p", f"{report.kind} · {today()}", class_="quiet"),
        tag("h1", report.title),
        tag("p", report.sentence, class_="sentence"),
        tag(
            "p",
            tag("button", "Print or save as PDF", type="button", data_do="print"),
            tag("button", "Light or dark", type="button", data_do="theme"),
            class_="actions",
        ),
    )
    foot = tag("footer", "Made with Promptloupe on this computer. Not for diagnosis.")
    return page(report.title, tag("main", head, contents, *parts, foot), ["look.css", "document.css"], "document.js")


def write(workspace: Workspace, content: str, kind: str, title: str) -> Path:
    """Keep a page in the workspace's exports, whole or not at all; a newer one of the same name replaces it."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in f"{kind}-{title}")[:90].strip("-")
    target = workspace.folder("exports") / f"{stem}.html"
    write_whole(target, content)
    return target


def _text(name: str) -> str:
    return files("engines.reports").joinpath("static", name).read_text("utf-8")
