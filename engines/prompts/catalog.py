"""The list of methods as data, for those who must not import torch: the workbench, the command line, the docs.

`method_catalog()` reads a cached list; where methods have changed since, a fresh one is made in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock

from engines.errors import ConfigError
from engines.paths import cache_dir
from engines.prompts.registry import plugin_sources
from engines.prompts.settings import Protocol

PROTOCOLS: tuple[str, ...] = get_args(Protocol)


@dataclass(frozen=True)
class MethodEntry:
    """One method, described (see `engines.prompts.base.MethodInfo` for the words)."""

    name: str
    title: str
    summary: str
    when: str
    needs: str
    group: str
    cost: str
    paper: str
    parity: str
    reported: str
    fitting: str
    frozen_images: bool
    learns_from: str
    new_classes: bool
    schema: dict[str, Any]
    """JSON schema of the settings."""
    training: dict[str, dict[str, Any]]
    """The paper's training settings for `<protocol>` and, where they depend on it, `<protocol>/<shots>`."""
    setting_presets: dict[str, dict[str, Any]]
    """The method's settings that differ from its defaults, by protocol."""
    file: str

    @property
    def trains(self) -> bool:
        return self.fitting != "none"

    @property
    def protocols(self) -> list[str]:
        """The protocols that the method can follow."""
        if not self.trains:
            return [name for name in PROTOCOLS if name != "zero-shot-anomaly"]  # every run of that carries it along
        if self.learns_from == "labels":
            transfer = ("base-to-new", "cross-dataset")
            known = ("few-shot", *transfer, "domain-generalisation")
            return [name for name in known if self.new_classes or name not in transfer]
        only = {"domains": ["domain-generalisation"], "masks": ["zero-shot-anomaly"]}
        return only.get(self.learns_from, ["unsupervised", "base-to-new"])

    def settings_for(self, protocol: str) -> dict[str, Any]:
        """Default settings of the method for a protocol."""
        fields = self.schema.get("properties", {})
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        return defaults | self.setting_presets.get(protocol, {})

    def training_for(self, protocol: str, shots: int) -> dict[str, Any]:
        """Default training settings for a protocol and a number of labelled images per class."""
        return self.training.get(f"{protocol}/{shots}", self.training[protocol])


def method_catalog() -> list[MethodEntry]:
    """All methods, sorted by title with zero-shot first."""
    cached = cache_dir() / f"methods-{_fingerprint()}.json"
    entries = _read(cached)
    if entries is None:
        with FileLock(cached.with_suffix(".lock")):  # several who ask at once wait for the first
            entries = _read(cached)
            if entries is None:
                entries = _make_in_another_process()
                partial = cached.with_suffix(".partial")
                partial.write_text(json.dumps(entries), encoding="utf-8")
                partial.replace(cached)
    return [MethodEntry(**entry) for entry in entries]


def _read(file: Path) -> list[dict[str, Any]] | None:
    try:
        return list(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def method_entry(name: str) -> MethodEntry:
    """The entry called `name`.

    Raises:
        ConfigError: there is none; names those that exist.
    """
    entries = {entry.name: entry for entry in method_catalog()}
    if name not in entries:
        raise ConfigError(f"There is no method called “{name}”.", f"Choose one of {', '.join(entries)}.")
    return entries[name]


def _fingerprint() -> str:
    """Changes when a method file, or the program around it, does."""
    digest = hashlib.sha256(sys.prefix.encode())
    plugins = plugin_sources()
    for file in [*sorted(Path(__file__).parent.glob("*.py")), *map(Path, plugins)]:
        digest.update(f"{file}\0".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _make_in_another_process() -> list[dict[str, Any]]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    made = subprocess.run(
        [sys.executable, "-m", "engines.prompts.catalog"], capture_output=True, text=True, env=environment, check=False
    )
    if made.returncode:
        raise ConfigError(
            "The list of methods could not be made: one of the method files has a mistake.",
            "Correct it, or take it out of the variable PROMPTLOUPE_METHODS.",
            made.stderr[-4000:],
        )
    return list(json.loads(made.stdout))


def describe_methods() -> list[dict[str, Any]]:
    """The catalogue's content, from the method classes themselves (imports torch)."""
    from engines.prompts.registry import available_methods, method_class

    entries = []
    for name in available_methods():
        cls = method_class(name)
        training = {protocol: cls.training_defaults(protocol, 16).model_dump() for protocol in PROTOCOLS}
        for protocol in PROTOCOLS:
            for shots in (1, 2, 4, 8):
                settings = cls.training_defaults(protocol, shots).model_dump()
                if settings != training[protocol]:
                    training[f"{protocol}/{shots}"] = settings
        entries.append(
            asdict(cls.info)
            | {
                "fitting": cls.fitting,
                "frozen_images": cls.frozen_images,
                "learns_from": cls.learns_from,
                "new_classes": cls.new_classes,
                "schema": cls.Config.model_json_schema(),
                "training": training,
                "setting_presets": cls.setting_presets,
                "file": f"{cls.__module__.replace('.', '/')}.py",
            }
        )
    return sorted(entries, key=lambda entry: (entry["name"] != "zero-shot", entry["title"].lower()))


if __name__ == "__main__":
    json.dump(describe_methods(), sys.stdout)
