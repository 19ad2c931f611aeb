"""Pages on paper: an HTML file as a PDF, through a Chromium without a window."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from app.chromium import find_chromium
from engines.errors import ConfigError

PATIENCE = 120
"""Seconds that the browser may take."""
BY_HAND = "Open the report in any browser and choose Print, then “Save as PDF”."


def print_pdf(page: Path, target: Path) -> Path:
    """Print `page` to `target`; returns it. The browser gets a profile of its own and no network is needed.

    Raises:
        ConfigError: there is no Chromium on this machine, or it could not print. The remedy says how to do it by hand.
    """
    browser = find_chromium()
    if browser is None:
        raise ConfigError("There is no Chromium or Chrome on this machine to print with.", BY_HAND)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="promptloupe-") as profile:
        made = Path(profile) / "page.pdf"
        command = [
            str(browser),
            "--headless",
            "--disable-gpu",
            "--no-sandbox",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={made}",
            page.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            said = done.stderr[-2000:]
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        if not made.is_file() or not made.read_bytes().startswith(b"%PDF"):
            raise ConfigError("The browser could not print the report.", BY_HAND, said)
        target.write_bytes(made.read_bytes())
    return target
