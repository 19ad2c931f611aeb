"""The catalogue of methods, and that one new file is enough for a new method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import available_methods, create_method
from engines.prompts.catalog import method_catalog, method_entry
from engines.prompts.pages import page, write_pages
from engines.prompts.registry import PLUGINS
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parent / "example_method.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PLUGINS, str(EXAMPLE))
    monkeypatch.setenv("PROMPTLOUPE_CACHE", str(tmp_path))


def test_every_method_explains_itself() -> None:
    for entry in method_catalog():
        assert entry.summary.count(".") >= 1
        assert entry.when
        assert entry.paper
        for name, field in entry.schema.get("properties", {}).items():
            assert field.get("title"), f"{entry.name}.{name} has no title"
            assert field.get("description"), f"{entry.name}.{name} has no description"
            assert "default" in field, f"{entry.name}.{name} has no default"
    assert method_catalog()[0].name == "zero-shot"
    assert sorted(entry.name for entry in method_catalog()) == available_methods()


def test_reading_the_catalogue_costs_no_torch() -> None:
    code = "import sys, engines.prompts.catalog as c; c.method_catalog(); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert shown.stdout.strip() == "False", shown.stderr


def test_training_follows_the_number_of_images() -> None:
    coop = method_entry("coop")
    assert [coop.training_for("few-shot", shots)["epochs"] for shots in (1, 2, 4, 8, 16, 0)] == [
        50,
        100,
        100,
        200,
        200,
        200,
    ]
    assert coop.training_for("base-to-new", 1)["epochs"] == 200


def test_one_file_is_a_method(example: None, tiny: Backbone, examples: Examples, tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 45
    entry = method_entry("residual")
    assert entry.schema["properties"]["strength"]["default"] == 0.5
    assert "residual.md" in [file.name for file in write_pages(tmp_path / "docs")]
    assert "How much the learned correction counts" in (tmp_path / "docs" / "residual.md").read_text()
    shown = subprocess.run(
        [sys.executable, "-m", "app.cli", "methods", "--json"], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert "residual" in [method["name"] for method in json.loads(shown.stdout)], shown.stderr
    method = create_method("residual", tiny, parity_weights.CLASSES)
    config = method.training_defaults().model_copy(update={"epochs": 10, "learning_rate": 0.1})
    epochs = list(train(method, examples, config, seed=1))
    assert epochs[-1].loss < epochs[0].loss


def test_a_method_file_with_a_mistake_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nowhere")
    monkeypatch.setenv(PLUGINS, str(broken))
    monkeypatch.setenv("PROMPTLOUPE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="has a mistake") as raised:
        method_catalog()
    assert "nowhere" in raised.value.detail


def test_unknown_method() -> None:
    with pytest.raises(ConfigError, match=r"no method called “copo”.*coop"):
        method_entry("copo")


def test_shipped_pages_are_up_to_date() -> None:
    for entry in method_catalog():
        shipped = ROOT / "docs" / "methods" / f"{entry.name}.md"
        assert shipped.read_text(encoding="utf-8") == page(entry), "run: promptloupe methods --write-docs docs/methods"
