"""Working on a study: collecting pairs, training an NPNet on them, judging. Each goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.backbones import load_backbone
from engines.diffusion.golden.checkpoint import load_npnet
from engines.diffusion.golden.collect import collect, recipe, small, to_bytes
from engines.diffusion.golden.files import add_line, save_whole
from engines.diffusion.golden.judge import Judged, judge
from engines.diffusion.golden.judged import GOLDEN, NPNET, STANDARD, Judgement, about, plain
from engines.diffusion.golden.npnet import NPNet, NPNetConfig
from engines.diffusion.golden.pairs import Pair, PairStore
from engines.diffusion.golden.pngs import write_picture
from engines.diffusion.golden.prompts import Trial, read_prompts, trials
from engines.diffusion.golden.scorers import load_scorer
from engines.diffusion.golden.scorers.base import Scorer
from engines.diffusion.golden.settings import JudgeSettings, NetworkSettings
from engines.diffusion.golden.study import Curve, Shown, Study, StudyRequest, key_of
from engines.diffusion.golden.train import held_out_error, split_pairs, text_states, train_npnet
from engines.diffusion.loading import load_text_to_image
from engines.diffusion.model import TextToImage
from engines.diffusion.places import find_text_to_image
from engines.errors import ConfigError


@dataclass(frozen=True)
class Watch:
    """Somebody who follows the work.

    Attributes:
        progress: told the share that is done (0 to 1) and what is done.
        check_cancelled: raises where the work is to be stopped.
        log: told notes that end nothing.
    """

    progress: Callable[[float, str], None] = lambda fraction, message: None
    check_cancelled: Callable[[], None] = lambda: None
    log: Callable[[str], None] = lambda text: None


def collect_pairs(study: Study, watch: Watch = Watch()) -> None:
    """Makes the pairs that the study asks for and lacks.

    Raises:
        ConfigError: no prompts, or pairs there were made otherwise.
        BackboneError: a model cannot be used, answers with NaN only, or its memory does not suffice.
        DataError: the disk is full; what was made stays.
    """
    request = study.request
    model = _load_model(request, watch)
    scorer = _load_scorer(request.scorer, request, model)
    prompts = read_prompts(request.prompts, model)
    notes = list(prompts.notes)
    study.note(notes)
    how = recipe(model, scorer, request.settings.sampling, request.settings.size)
    wanted = trials(prompts.texts, request.settings.each, request.settings.seed)
    with PairStore(study.pairs, how) as store:
        shown = {each.key for each in study.shown()}
        study.drop_torn()
        for number, pair in enumerate(store.pairs):  # kept, but not shown any more before the work was stopped
            if key_of(pair.prompt, pair.seed) not in shown:
                _show(study, pair, store.arrays(number).pictures)
        for progress in collect(model, scorer, wanted, store, request.settings.batch):
            for made in progress.made:
                if key_of(made.pair.prompt, made.pair.seed) not in shown:
                    _show(study, made.pair, made.pictures)
            if progress.notes:
                notes += progress.notes
                study.note(notes)
                for note in progress.notes:
                    watch.log(note)
            watch.progress(progress.done / progress.total, f"{progress.done:,} of {progress.total:,} pairs")
            watch.check_cancelled()


def train_network(study: Study, settings: NetworkSettings, watch: Watch = Watch()) -> Curve:
    """Trains an NPNet on the study's pairs; one with the same pairs and settings goes on.

    Raises:
        ConfigError: too few pairs, or the model is not the one that they were made with.
        BackboneError: the error became infinite, or the memory does not suffice.
        DataError: no pairs, or the disk is full.
    """
    request = study.request
    with PairStore(study.pairs) as store:
        split = split_pairs(store, settings.training)
        model = _load_model(request, watch)
        if model.fingerprint != store.recipe["model"]:
            raise ConfigError(
                "The text-to-image model is not the one that the pairs were made with.", "Collect pairs with this one."
            )
        network = _new_network(model, request, settings)
        keys = [(store.pairs[number].prompt, store.pairs[number].seed) for number in (*split.train, *split.held_out)]
        key = key_of(settings.model_dump(exclude={"epochs"}), network.config.model_dump(), keys)
        folder = study.folder / "networks" / key
        encode = text_states(model)
        known = {
            "unchanged": held_out_error(None, store, split, encode, settings.training),
            "passes": settings.epochs,
            "pairs": len(split.train),
            "held_out_pairs": len(split.held_out),
            "held_out_prompts": sorted({store.pairs[number].prompt for number in split.held_out}),
        }
        save_whole(folder / "about.json", json.dumps(known, ensure_ascii=False).encode())
        for progress in train_npnet(network, store, encode, folder, settings.training):
            done = f"pass {min(progress.step * settings.epochs // progress.steps + 1, settings.epochs)}"
            watch.progress(progress.step / progress.steps, f"{done} of {settings.epochs}, error {progress.loss:.4f}")
            watch.check_cancelled()
    return next(curve for curve in study.curves() if curve.folder == folder)


def judge_noise(
    study: Study, settings: JudgeSettings, prompts: str = "", scorers: Sequence[str] = (), watch: Watch = Watch()
) -> Judgement:
    """Compares standard, golden and (where there is a network) predicted noise on noises that nothing learnt from.

    Args:
        prompts: one a line; where there are none, those that the newest network did not learn from.
        scorers: names in `SCORERS` besides the one that chose the pairs; where there are none, those that can judge.
    Raises:
        ConfigError: no prompts, noises that pairs were made of, or a scorer that cannot judge.
        BackboneError: a model cannot be used, or its memory does not suffice.
        DataError: the disk is full; what was judged stays.
    """
    request, curve = study.request, study.newest()
    network = load_npnet(curve.network) if curve is not None and curve.network is not None else None
    model = _load_model(request, watch)
    known = curve.held_out_prompts if curve is not None and network is not None else []
    found = read_prompts(prompts.strip() or "\n".join(known) or request.prompts, model)
    for note in found.notes:
        watch.log(note)
    wanted = trials(found.texts, settings.each, settings.seed)[: settings.most]
    pairs = study.shown()
    if {(each.prompt, each.seed) for each in pairs} & {(each.prompt, each.seed) for each in wanted}:
        raise ConfigError("Pairs were made of the noises to judge with.", "Choose another seed than that of the pairs.")
    judges = _judges(request, model, scorers, wanted)
    learnt = {each.prompt for each in pairs} - set(known) if network is not None else set()
    kinds = [STANDARD, GOLDEN, *([NPNET] if network is not None else [])]
    weights = "" if curve is None or curve.network is None else hashlib.sha256(curve.network.read_bytes()).hexdigest()
    named = {name: scorer.name for name, scorer in judges.items()}
    asked = [(each.prompt, each.seed) for each in wanted]
    key = key_of(asked, kinds, named, weights, model.fingerprint, request.settings.model_dump(exclude={"batch"}))
    judgement = Judgement(
        study.folder / "judged" / key,
        kinds,
        named,
        len(wanted),
        new_prompts=not learnt & {each.prompt for each in wanted},
        network=curve.folder.name if curve is not None and network is not None else "",
    )
    save_whole(judgement.folder / "about.json", about(judgement))
    done = {(row.prompt, row.seed) for row in judgement.rows()}
    numbers = {trial: number for number, trial in enumerate(wanted)}
    waiting = [trial for trial in wanted if (trial.prompt, trial.seed) not in done]
    watch.progress(len(done) / len(wanted), f"{len(done):,} of {len(wanted):,} comparisons")
    networks = {} if network is None else {NPNET: network}
    options = request.settings
    judging = judge(model, waiting, judges, options.sampling, networks, options.size, options.batch)
    for count, one in enumerate(judging, len(done) + 1):
        _keep(judgement, numbers[one.trial], one)
        watch.progress(count / len(wanted), f"{count:,} of {len(wanted):,} comparisons")
        watch.check_cancelled()
    return judgement


def use_network(request: StudyRequest, network: Path, folder: Path, watch: Watch = Watch()) -> list[dict[str, Any]]:
    """Images of the prompts of a request with standard, golden and predicted noise, for the eye alone.

    Returns:
        For each prompt and seed its images (names of files in `folder`, by kind) and the statistics of their noises.
    Raises:
        ConfigError: no prompts, or the network does not fit the model or the size.
        BackboneError: a model cannot be used, or its memory does not suffice.
        DataError: the disk is full.
    """
    networks, options = {NPNET: load_npnet(network)}, request.settings
    model = _load_model(request, watch)
    prompts = read_prompts(request.prompts, model)
    for note in prompts.notes:
        watch.log(note)
    wanted = trials(prompts.texts, options.each, options.seed)
    found = []
    for number, one in enumerate(judge(model, wanted, {}, options.sampling, networks, options.size, options.batch)):
        files = {kind: f"{number:04d}-{kind}.png" for kind in one.pictures}
        for kind, pixels in one.pictures.items():
            write_picture(pixels, folder / files[kind], f"{one.trial.prompt} ({kind} noise)")
        found.append({"prompt": one.trial.prompt, "seed": one.trial.seed, "images": files, "noise": _facts(one)})
        watch.progress((number + 1) / len(wanted), f"{number + 1:,} of {len(wanted):,} prompts")
        watch.check_cancelled()
    return found


def _load_model(request: StudyRequest, watch: Watch) -> TextToImage:
    watch.progress(0.0, "loading the model")
    folder = find_text_to_image(request.model).path
    return load_text_to_image(folder, slicing=request.settings.slicing)


def _load_scorer(name: str, request: StudyRequest, model: TextToImage) -> Scorer:
    return load_scorer(name, load_backbone(request.backbone) if name == "clip" else None, str(model.device))


def _judges(
    request: StudyRequest, model: TextToImage, scorers: Sequence[str], wanted: Sequence[Trial]
) -> dict[str, Scorer]:
    """Scorers by name, first the one that chose the pairs: it is the one that the network was made to please."""
    names = dict.fromkeys([request.scorer, *(scorers or ("clip", "scenes"))])
    found: dict[str, Scorer] = {}
    for name in names:
        scorer = _load_scorer(name, request, model)
        try:
            scorer.check([trial.prompt for trial in wanted])
        except ConfigError:
            if name in (request.scorer, *scorers):
                raise
            continue  # offered only where it can judge
        found[name] = scorer
    return found


def _new_network(model: TextToImage, request: StudyRequest, settings: NetworkSettings) -> NPNet:
    config = NPNetConfig.fitting(model, *request.settings.size).model_copy(update={"svd": settings.svd})
    if settings.residual != "auto":
        config = config.model_copy(update={"residual": settings.residual})
    torch.manual_seed(settings.seed)
    return NPNet(config).to(model.device)


def _show(study: Study, pair: Pair, pictures: Tensor) -> None:
    """Adds a pair to the gallery; pictures are uint8 [2, 3, H, W]."""
    key = key_of(pair.prompt, pair.seed)
    for kind, pixels in zip(("original", "golden"), small(pictures / 255), strict=True):
        write_picture(to_bytes(pixels), study.picture(key, kind), f"{pair.prompt} ({kind} noise)")
    study.show(Shown(key, pair.prompt, pair.seed, pair.original_score, pair.golden_score))


def _keep(judgement: Judgement, number: int, one: Judged) -> None:
    """Pictures first: a line says that they are there. Images that could not be made have no picture."""
    scores = {name: {kind: plain(score) for kind, score in found.items()} for name, found in one.scores.items()}
    for kind, pixels in one.pictures.items():
        if all(found[kind] is not None for found in scores.values()):
            write_picture(pixels, judgement.picture(number, kind), f"{one.trial.prompt} ({kind} noise)")
    trial = {"number": number, "prompt": one.trial.prompt, "seed": one.trial.seed}
    add_line(judgement.folder / "judged.jsonl", trial | {"scores": scores, "noise": _facts(one)})


def _facts(one: Judged) -> dict[str, dict[str, float | None]]:
    return {kind: {fact: plain(value) for fact, value in asdict(facts).items()} for kind, facts in one.noise.items()}
