"""Choosing 100 images out of a million, and the plain way at a size where that still runs.

    python benchmarks/active.py [--rows 1000000] [--classes 10,100] [--threads 2] [--budget 100] [--labelled 500]

The pool is made up: unit features of 512 dimensions in float16 around 100 centres of very different frequency, with
64 strong directions and noise, in a memory-mapped file; softmax probabilities in float32, memory-mapped too. Every case
is one call of `engines.active.select` in a process of its own; memory is the highest resident set of that process,
mapped pages included. The files lie in the page cache, as after writing them.

The plain way does what the papers' codes do with everything in memory: all entropies sorted; k-centre with a product of
all images and the newest centre at every step; BADGE with the gradient matrix [N, C · D] written out and a pass over it
at every draw. (PCB around them asks the plain way for a tenth of the pool, so ten times as many passes.) Both choose
from the same pool, and the plain picks are compared with ours, for BADGE with those of the official mode, which draws
from the same stream.

Targets at a million rows: entropy and PCB-entropy in 2 s, the others in 30 s, each in 4 GiB. Elapsed time counts; with
--processor-time it is the processor's time of one thread, which other work on the machine distorts less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, in_own_process, peak_memory, processor, resident_memory

DIMENSIONS, CENTRES, BLOCK, GIB = 512, 100, 50_000, 2**30
CASES = ["entropy", "pcb-entropy", "coreset", "badge", "pcb-coreset", "pcb-badge"]
SECONDS = {"entropy": 2.0, "pcb-entropy": 2.0}
MOST_SECONDS, MOST_MEMORY = 30.0, 4 * GIB
PLAIN_ROWS, PLAIN_CLASSES = 10_000, 20


def main() -> int:
    arguments = _arguments()
    if arguments.side:
        SIDES[arguments.side](arguments)
        return 0
    if arguments.processor_time:
        arguments.threads = 1
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)
    file = RESULTS / "active.json"
    result = json.loads(file.read_text("utf-8")) if arguments.part and file.exists() else {}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        runner = Runner(arguments, Path(scratch))
        for part in [arguments.part] if arguments.part else ["scale", "plain"]:
            result[part] = runner.scale() if part == "scale" else runner.plain()
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))
    return 0 if all(found["target_met"] for found in result.get("scale", {}).get("cases", [])) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", default="10,100", help="separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=["scale", "plain"], help="only one half; the other stays as measured before")
    parser.add_argument("--processor-time", action="store_true", help="one thread, judged by processor time")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--labelled", type=int, default=500)
    parser.add_argument("--scratch", type=Path, help="folder with 2 GiB of room for the pool")
    parser.add_argument("--side", choices=["prepare", "ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


class Runner:
    """Runs cases in processes of their own."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self.arguments, self.scratch = arguments, scratch
        self.measure = "processor_seconds" if arguments.processor_time else "seconds"

    def scale(self) -> dict[str, Any]:
        """Every case at full size, against its targets."""
        cases = []
        for classes in map(int, self.arguments.classes.split(",")):
            self._run("prepare", self.arguments.rows, classes)
            for case in CASES:
                found = self._run("ours", self.arguments.rows, classes, case)
                limit = SECONDS.get(case, MOST_SECONDS)
                found["target_met"] = found[self.measure] <= limit and found["peak_memory"] <= MOST_MEMORY
                cases.append({"case": case, "classes": classes, "target_seconds": limit} | _without(found, "picks"))
        return {"setting": self._setting(self.arguments.rows), "cases": cases}

    def plain(self) -> dict[str, Any]:
        """Ours beside the plain way at a size where that still runs."""
        self._run("prepare", PLAIN_ROWS, PLAIN_CLASSES)
        cases = []
        for case in PLAIN:
            ours, theirs = (self._run(side, PLAIN_ROWS, PLAIN_CLASSES, case) for side in ("ours", "plain"))
            same = self._run("ours", PLAIN_ROWS, PLAIN_CLASSES, "official:badge") if case == "badge" else ours
            found: dict[str, Any] = {"case": case, "same_picks": same["picks"] == theirs["picks"]}
            for name in (self.measure, "memory"):
                found[name] = {"ours": ours[name], "plain": theirs[name], "ratio": theirs[name] / ours[name]}
            cases.append(found)
        return {"setting": self._setting(PLAIN_ROWS) | {"classes": PLAIN_CLASSES}, "cases": cases}

    def _run(self, side: str, rows: int, classes: int, case: str = "") -> dict[str, Any]:
        options = [f"--side={side}", f"--rows={rows}", f"--classes={classes}", f"--case={case}"]
        options += [f"--{name}={getattr(self.arguments, name)}" for name in ("budget", "labelled")]
        found = in_own_process(__file__, [*options, f"--scratch={self.scratch}"], self.scratch / "answer.json")
        print(side, rows, classes, case, _without(found, "picks"), flush=True)
        return found

    def _setting(self, rows: int) -> dict[str, Any]:
        named = {name: getattr(self.arguments, name) for name in ("threads", "budget", "labelled")}
        return {"rows": rows, "dimensions": DIMENSIONS, "judged_by": self.measure, "processor": processor()} | named


def _without(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != name}


# -- each in its own process -------------------------------------------------------------------------------------------


def prepare(arguments: argparse.Namespace) -> None:
    """Write the pool to the scratch folder."""
    import numpy as np

    rows, classes = arguments.rows, int(arguments.classes)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(CENTRES, classes), DIMENSIONS), dtype=np.float32)
    shares = 1 / np.arange(1, len(centres) + 1)
    basis = rng.standard_normal((64, DIMENSIONS), dtype=np.float32) / 8
    words = 12 * centres[:classes] / np.linalg.norm(centres[:classes], axis=1, keepdims=True)
    scratch = arguments.scratch
    mapped = np.lib.format.open_memmap
    features = mapped(scratch / "features.npy", "w+", np.float16, (rows, DIMENSIONS))
    probabilities = mapped(scratch / "probabilities.npy", "w+", np.float32, (rows, classes))
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        truth = rng.choice(len(centres), count, p=shares / shares.sum())
        block = centres[truth] + rng.standard_normal((count, 64), dtype=np.float32) @ basis
        block += 0.5 * rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        powers = np.exp(block @ words.T - 12)
        features[start : start + count] = block
        probabilities[start : start + count] = powers / powers.sum(axis=1, keepdims=True)
    labelled = rng.choice(rows, min(arguments.labelled, rows // 2), replace=False)
    np.savez(scratch / "labelled.npz", labelled=labelled, labels=rng.integers(0, classes, len(labelled)))
    _answer(scratch, {"rows": rows})


def ours(arguments: argparse.Namespace) -> None:
    """One call of `select`; a case `official:…` in official mode."""
    import numpy as np

    from engines.active import available_strategies, select

    available_strategies()
    mode, _, case = arguments.case.rpartition(":")
    options = {"compat": "official"} if mode else {}
    features, probabilities = (
        np.load(arguments.scratch / f"{name}.npy", mmap_mode="r") for name in ("features", "probabilities")
    )
    given = np.load(arguments.scratch / "labelled.npz")
    labelled, labels = given["labelled"], given["labels"]

    def choose() -> list[int]:
        return select(case, features, probabilities, labelled, arguments.budget, labels=labels, **options)

    _timed(arguments.scratch, choose)


def plain(arguments: argparse.Namespace) -> None:
    """The same choice with everything in memory."""
    import numpy as np

    features = np.load(arguments.scratch / "features.npy").astype(np.float32)
    probabilities = np.load(arguments.scratch / "probabilities.npy")
    given = np.load(arguments.scratch / "labelled.npz")

    def choose() -> list[int]:
        rows = np.setdiff1d(np.arange(len(features)), given["labelled"])
        chosen = PLAIN[arguments.case](features, probabilities, rows, given["labelled"], arguments.budget)
        return list(rows[chosen].tolist())

    _timed(arguments.scratch, choose)


def plain_entropy(features: Any, probabilities: Any, rows: Any, labelled: Any, count: int) -> Any:
    """All entropies, sorted."""
    import numpy as np

    return np.argsort((probabilities[rows] * np.log(probabilities[rows] + 1e-6)).sum(axis=1), kind="stable")[:count]


def plain_coreset(features: Any, probabilities: Any, rows: Any, labelled: Any, count: int) -> Any:
    """k-centre greedy with all images compared at every step."""
    import numpy as np

    free, known = features[rows].astype(np.float64), features[labelled].astype(np.float64)
    lengths = (free**2).sum(axis=1)  # not exactly 1 in half precision
    nearest = (lengths[:, None] + (known**2).sum(axis=1) - 2 * free @ known.T).min(axis=1)
    picks: list[int] = []
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, lengths + lengths[picks[-1]] - 2 * free @ free[picks[-1]])
        nearest[picks] = -1
    return picks


def plain_badge(features: Any, probabilities: Any, rows: Any, labelled: Any, count: int) -> Any:
    """k-means++ seeding over the gradients, written out."""
    import numpy as np

    answers = probabilities[rows]
    factor = -answers
    factor[np.arange(len(rows)), answers.argmax(axis=1)] += 1
    gradients = np.einsum("nc,nd->ncd", factor, features[rows]).reshape(len(rows), -1)
    lengths = np.einsum("ng,ng->n", gradients, gradients)
    rng = np.random.RandomState(1)
    picks = [int(lengths.argmax())]
    nearest = np.full(len(rows), np.inf)
    while len(picks) < count:
        newest = gradients[picks[-1]]
        nearest = np.minimum(nearest, np.maximum(0, lengths + lengths[picks[-1]] - 2 * gradients @ newest))
        nearest[picks] = 0
        sums = np.cumsum(nearest / nearest.sum())
        drawn = picks[0]
        while drawn in picks:
            drawn = int(np.searchsorted(sums, rng.uniform()))
        picks.append(drawn)
    return picks


PLAIN = {"entropy": plain_entropy, "coreset": plain_coreset, "badge": plain_badge}
SIDES = {"prepare": prepare, "ours": ours, "plain": plain}


def _timed(scratch: Path, choose: Any) -> None:
    before = resident_memory()
    waited, worked = time.perf_counter(), time.process_time()
    picks = choose()
    seconds, worked = time.perf_counter() - waited, time.process_time() - worked
    highest = peak_memory()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    measured = {"seconds": seconds, "processor_seconds": worked, "load_average": load}
    _answer(scratch, measured | {"peak_memory": highest, "memory": highest - before, "picks": picks})


def _answer(scratch: Path, answer: dict[str, Any]) -> None:
    (scratch / "answer.json").write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
