"""A small project with launch.py beside it, whose environment is filled by a stand-in for pip."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

LAUNCH = Path(__file__).parents[2] / "launch.py"
PYPROJECT = """
[project]
name = "demo"
version = "1.0"
dependencies = ["thing==1.0"]
[project.optional-dependencies]
test = ["pytest"]
medical = []
"""
FAKE_PIP = """
import json, pathlib, sys, sysconfig, time
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
with open(here / "calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
print("\\n".join(plan["lines"]), flush=True)
while (here / "hold.txt").exists():
    time.sleep(0.05)
if plan["code"] == 0 and "-e" in sys.argv:
    site = pathlib.Path(sysconfig.get_path("purelib"))
    (site / "thing-1.0.dist-info").mkdir(exist_ok=True)
    (site / "thing-1.0.dist-info" / "RECORD").touch()
    (site / "thing.py").touch()
    (site / "demo.pth").write_text(str(here))
sys.exit(plan["code"])
"""
SETTINGS = {
    "VENV": ("-m", "venv", "--without-pip"),
    "MODULES": ["thing"],
    "SMOKE_TEST": "import thing",
    "DISK_GB": 0,
}


@dataclass
class Project:
    """A folder with launch.py in it, and what its stand-in for pip was asked."""

    root: Path
    module: ModuleType

    @property
    def environment(self) -> Any:
        return self.module.Environment(self.root)

    def plan_pip(self, *lines: str, code: int = 0) -> None:
        (self.root / "plan.json").write_text(json.dumps({"lines": lines, "code": code}))

    def pip_calls(self) -> list[str]:
        """The installations that pip was asked for since the last question."""
        file = self.root / "calls.txt"
        calls = file.read_text().splitlines() if file.is_file() else []
        file.write_text("")
        return [call.split("constraints.txt ")[1].replace("--progress-bar raw ", "") for call in calls]

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[str]:
        """Start launch.py as a person would, with the stand-ins put in its place."""
        changed = {**SETTINGS, "PIP": (str(self.root / "fake_pip.py"),), **settings}
        script = f"import sys, launch; vars(launch).update({changed!r}); sys.exit(launch.main(sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **settings: Any) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a start that ends by itself."""
        process = self.start(*arguments, **settings)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err
