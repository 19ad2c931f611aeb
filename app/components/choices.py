"""What a person chooses before a training: the options, what is chosen at first, and the request that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.forms import Field, form_fields
from app.components.methods import methods
from engines.backbones import list_backbones
from engines.prompts.catalog import MethodEntry
from engines.prompts.settings import TrainingConfig, parse
from engines.runs.request import TrainRequest
from engines.store.run_queries import Experiment

SHOTS = {"1": 1, "2": 2, "4": 4, "8": 8, "16": 16, "all": 0}
SEEDS = {"once": 1, "3 times": 3, "5 times": 5}
PROTOCOLS = {
    "on the classes it was trained on": "few-shot",
    "also on classes it never saw (base / new)": "base-to-new",
    "on sites or scanners it never saw (domain generalisation)": "domain-generalisation",
    "on other data sets (transfer)": "cross-dataset",
    "on the images that were set aside": "unsupervised",
    "where the defects are (anomaly maps)": "zero-shot-anomaly",
}
DEFAULTS: dict[str, Any] = {
    "dataset_id": None,
    "backbone": "mini-clip",
    "method": "coop",
    "shots": 16,
    "seeds": 3,
    "protocol": "few-shot",
    "targets": [],
    "settings": {},
}
"""What is chosen at first; the browser remembers it under the key `choice`. `settings` holds the values of the form
that are not the paper's, of the method and of its training together."""


def checked(remembered: Any) -> dict[str, Any]:
    """What the browser remembered, with the first choice in place of what does not fit."""
    value = dict(DEFAULTS)
    if isinstance(remembered, dict):
        value |= {key: remembered[key] for key in DEFAULTS if key in remembered}
    fits = {
        "backbone": isinstance(value["backbone"], str),
        "method": value["method"] in methods(),
        "shots": value["shots"] in SHOTS.values(),
        "seeds": value["seeds"] in SEEDS.values(),
        "protocol": value["protocol"] in PROTOCOLS.values(),
        "targets": isinstance(value["targets"], list),
        "settings": isinstance(value["settings"], dict),
    }
    return {key: value[key] if fits.get(key, True) else default for key, default in DEFAULTS.items()}


def choice_of(found: Experiment) -> dict[str, Any]:
    """The choice that repeats an experiment."""
    settings = {**found.config.get("settings", {}), **found.config.get("training", {})}
    entry = methods().get(found.method)
    usual = {f.name: f.default for f in settings_fields(entry, found.protocol, found.shots)} if entry else {}
    nearest = min(SEEDS.values(), key=lambda offered: abs(offered - len(found.lines)))
    return {
        "dataset_id": found.dataset_id,
        "backbone": found.backbone,
        "method": found.method,
        "shots": found.shots if entry and entry.trains else DEFAULTS["shots"],
        "seeds": nearest,
        "protocol": found.protocol,
        "targets": [*found.config.get("target_domains", []), *found.config.get("test_datasets", [])],
        "settings": {name: value for name, value in settings.items() if value != usual.get(name)},
    }


def settings_fields(entry: MethodEntry, protocol: str, shots: int) -> list[Field]:
    """The method's own settings, then those of the training where there are steps to set."""
    own = form_fields(entry.schema, entry.settings_for(protocol))
    if entry.fitting != "gradient":
        return own
    return own + form_fields(TrainingConfig.model_json_schema(), entry.training_for(protocol, shots))


def request_of(entry: MethodEntry, given: Sequence[Any], changed: Mapping[str, Any]) -> TrainRequest:
    """The request for `given` (the choice without its settings, in the order of `DEFAULTS`) and `changed` settings.

    Raises:
        ConfigError: something was chosen that does not exist.
    """
    dataset_id, backbone, method, shots, seeds, protocol, targets = given
    own = entry.schema.get("properties", {})
    values = {
        "dataset_id": dataset_id,
        "backbone": backbone or DEFAULTS["backbone"],
        "method": method,
        "shots": shots,
        "seeds": list(range(1, seeds + 1)) if seeds in SEEDS.values() else [],
        "protocol": protocol,
        "target_domains": (targets or []) if protocol == "domain-generalisation" else [],
        "test_datasets": (targets or []) if protocol in ("cross-dataset", "zero-shot-anomaly") else [],
        "settings": {name: value for name, value in changed.items() if name in own},
        "training": {name: value for name, value in changed.items() if name not in own},
    }
    request: TrainRequest = parse(TrainRequest, values, "the training")
    return request


def backbone_choices(chosen: str) -> list[tuple[str, str]]:
    """(title, name) of the models on this machine, and of the chosen one."""
    found: list[tuple[str, str]] = []
    for info in list_backbones():
        if info.pretrained:
            found += [(f"{info.name}, {weights}", f"{info.name}:{weights}") for weights in info.on_disk]
        elif info.state != "needs download":
            found.append((info.title, info.name))
    return found if chosen in (name for _, name in found) else [*found, (chosen, chosen)]
