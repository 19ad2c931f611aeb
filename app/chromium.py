"""Finds a Chromium for the browser tests, and gets one where there is none (`python -m app.chromium`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("C:/Program Files/Google/Chrome/Application/chrome.exe"),
)
# Where Playwright keeps the browsers that it fetches itself, and what they are called there.
PLAYWRIGHT_FOLDERS = ("~/.cache/ms-playwright", "~/Library/Caches/ms-playwright", "~/AppData/Local/ms-playwright")
PLAYWRIGHT_NAMES = ("chrome-linux*/chrome", "chrome-mac*/*.app/Contents/MacOS/*", "chrome-win*/chrome.exe")


def find_chromium() -> Path | None:
    """The first Chromium that runs: $CHROMIUM, one on the PATH, an installed Chrome, or Playwright's own."""
    candidates = [Path(os.environ["CHROMIUM"])] if os.environ.get("CHROMIUM") else []
    candidates += [Path(found) for name in NAMES if (found := shutil.which(name))]
    candidates += PLACES
    folders = [os.environ.get("PLAYWRIGHT_BROWSERS_PATH", ""), *PLAYWRIGHT_FOLDERS]
    for folder in filter(None, folders):
        for name in PLAYWRIGHT_NAMES:
            candidates += sorted(Path(folder).expanduser().glob(f"chromium-*/{name}"), reverse=True)
    return next((path for path in candidates if path.is_file() and _runs(path)), None)


def install_chromium() -> Path | None:
    """Install Debian's Chromium where apt is there and may be used, else Playwright's own; None where neither works."""
    return find_chromium() or next(
        (found for way in _ways() if all(map(_succeeds, way)) and (found := find_chromium())), None
    )


def _runs(path: Path) -> bool:
    """Whether the program starts: Ubuntu's packages, for one, are stand-ins that only name another installer."""
    return os.name == "nt" or _succeeds([str(path), "--version"])  # on Windows this option opens a window


def _ways() -> list[list[list[str]]]:
    ways = [[[sys.executable, "-m", "playwright", "install", "chromium"]]]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if shutil.which("apt-get") and (root or (shutil.which("sudo") and _succeeds(["sudo", "-n", "true"]))):
        apt = ["apt-get"] if root else ["sudo", "-n", "apt-get"]
        ways.insert(0, [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", "chromium"]])
    return ways


def _succeeds(command: Sequence[str]) -> bool:
    quiet = subprocess.DEVNULL
    variables = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, env=variables, timeout=900)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> int:
    if find_chromium() is None:
        print("The browser tests need Chromium, which is installed now (about 350 MB) …", flush=True)
        if install_chromium() is None:
            print("No browser could be installed here: the browser tests will say 'skipped: no browser'.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
