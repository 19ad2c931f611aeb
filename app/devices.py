"""Asks torch, in a process of its own, what it can compute on, and says why a graphics card is not used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

QUESTION = """
import json, os, warnings
answer = {"cards": [], "problem": ""}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, torchvision
    answer["torch"], answer["torchvision"] = torch.__version__, torchvision.__version__
    answer["cuda"], answer["mps"] = torch.version.cuda, torch.backends.mps.is_available()
    answer["architectures"] = torch.cuda.get_arch_list() if torch.version.cuda else []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            card = {"name": about.name, "total": about.total_memory, "capability": f"sm_{about.major}{about.minor}"}
            try:
                card["free"] = torch.cuda.mem_get_info(index)[0]
                torch.ones(8, 8, device=f"cuda:{index}").square().sum().item()
            except RuntimeError as error:
                card["problem"] = str(error).splitlines()[0]
            answer["cards"].append(card)
    elif torch.version.cuda:
        try:
            torch.cuda.init()
        except Exception as error:
            answer["problem"] = str(error).splitlines()[0]
answer["problem"] = answer["problem"] or " ".join(str(w.message) for w in caught if "CUDA" in str(w.message))
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Devices:
    """What torch answered: `facts` as QUESTION makes them (empty where torch does not start, then see `error`)."""

    facts: dict[str, Any]
    error: str = ""
    driver: str = ""
    """NVIDIA driver and card as the system sees them, whether or not torch can use them."""

    @property
    def best(self) -> str:
        """Where a training runs: "cuda", "mps" or "cpu"."""
        if any("problem" not in card for card in self.facts.get("cards", [])):
            return "cuda"
        return "mps" if self.facts.get("mps") else "cpu"

    def describe(self) -> str:
        """One line for people, such as "NVIDIA A100, 40 GB (38 GB free)"."""
        if self.best == "cuda":
            cards = [card for card in self.facts["cards"] if "problem" not in card]
            return "; ".join(f"{c['name']}, {c['total'] / 1e9:.0f} GB ({c['free'] / 1e9:.0f} GB free)" for c in cards)
        return "Apple graphics (Metal)" if self.best == "mps" else f"the processor, {os.cpu_count()} cores"

    def trouble(self) -> tuple[str, str]:
        """(reason, remedy) where a graphics card cannot be used or is nearly full; else two empty texts."""
        facts = self.facts
        for card in facts.get("cards", []):
            if "problem" in card and facts["cuda"] and card["capability"] not in facts["architectures"]:
                reason = f"This torch has no kernels for {card['name']} ({card['capability']})."
                return reason, "Use a newer card, or leave the work to the processor."
            if "problem" in card:
                return (
                    f"{card['name']} does not compute: {card['problem']}.",
                    "Update its driver, or restart.",
                )
            if card["free"] < 1e9:
                return f"{card['name']} is nearly full.", "End other programs that use it (nvidia-smi lists them)."
        if facts.get("cards") or not self.driver:
            return "", ""
        if facts["cuda"] is None:
            return "The installed torch was built without CUDA.", "See “Graphics cards” in docs/install.md."
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            return "The variable CUDA_VISIBLE_DEVICES hides the card.", "Unset that variable."
        if "driver" in facts["problem"].lower():
            return f"The driver ({self.driver}) is too old for CUDA {facts['cuda']}.", "Update the NVIDIA driver."
        return f"torch finds no usable card: {facts['problem'] or 'it gave no reason'}.", "Update the NVIDIA driver."


def ask_torch() -> Devices:
    """Start torch once in a process of its own (some seconds) and report what it can use."""
    driver = _driver()
    try:
        done = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True, timeout=180)
        if done.returncode == 0:
            return Devices(json.loads(done.stdout.splitlines()[-1]), driver=driver)
        reason = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
    except (OSError, ValueError, IndexError) as error:
        reason = str(error)
    except subprocess.TimeoutExpired:
        reason = "it did not answer within three minutes"
    return Devices({}, reason, driver)


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""
