"""Finding images by an image or by words: cosine similarity over the features that are computed already, exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select

from engines.backbones import Backbone, FeatureCache, load_backbone
from engines.data.images import load_image
from engines.data.names import clean
from engines.data.sampling import effective_labels
from engines.errors import ConfigError, DataError
from engines.prompts.zero_shot import shipped_templates
from engines.store import Dataset, Sample, Workspace

NEAR_DUPLICATE = 0.999
"""Cosine from which two images are called nearly the same. A picture saved again or made smaller stays above it, the
most alike pair of 1,260 different cells (mini-clip) below."""
MOST_HITS = 1000
LONGEST_TEXT = 10_000
_SLICE = 4096  # rows in memory at a time: a million images need no more memory than their ids and scores

Check = Callable[[], object]


def similar_images(
    workspace: Workspace,
    dataset_id: int,
    backbone: str,
    sample_id: int,
    limit: int = 20,
    unlabelled: bool = False,
    check_cancelled: Check = lambda: None,
) -> dict[str, Any]:
    """The images of a data set that are most like one of them, best first.

    Args:
        unlabelled: only among images without a label.

    Returns:
        `hits`: `{"sample": id, "score": cosine, "near_duplicate": bool}` without the image itself; `searched` and
        `missing`: how many images had features and how many had none yet.

    Raises:
        DataError: the data set or the image is gone.
    """
    ids = _candidates(workspace, dataset_id, unlabelled)
    with workspace.session() as session:
        sample = session.get(Sample, sample_id)
    if sample is None or sample.dataset_id != dataset_id:
        raise DataError("This image is not in the data set any more.", "Choose another one.")
    model = load_backbone(backbone)
    cache = _cache(workspace, dataset_id, model)
    if cache.missing([sample_id]):
        pixels = model.preprocess(load_image(workspace.resolve(sample.file)))
        with torch.no_grad():
            query = model.encode_image(pixels[None])[0].cpu().numpy()
    else:
        query = cache.read([sample_id])[0]
    found = _best(cache, ids[ids != sample_id], query, limit, check_cancelled)
    for hit in found["hits"]:
        hit["near_duplicate"] = hit["score"] >= NEAR_DUPLICATE
    return found


def search_text(
    workspace: Workspace,
    dataset_id: int,
    backbone: str,
    text: str,
    limit: int = 20,
    unlabelled: bool = False,
    check_cancelled: Check = lambda: None,
) -> dict[str, Any]:
    """The images of a data set that fit some words best, best first.

    The name of one of its classes is put into the ready-made sentences (Radford et al. 2021, section 3.1.4: the mean
    of their features); anything else is taken as it stands.

    Returns:
        As `similar_images`, without `near_duplicate`; and `sentences`: what was asked of the model.

    Raises:
        DataError: the data set is gone.
        ConfigError: the text is empty or too long for the model.
    """
    words = clean(text[: LONGEST_TEXT + 1])
    if not words:
        raise ConfigError("There is nothing to search for.", "Type a few words, such as “cells with two lobes”.")
    ids = _candidates(workspace, dataset_id, unlabelled)
    model = load_backbone(backbone)
    sentences = _sentences(workspace, dataset_id, words)
    found = _best(_cache(workspace, dataset_id, model), ids, _text_query(model, sentences), limit, check_cancelled)
    return found | {"sentences": sentences}


def _candidates(workspace: Workspace, dataset_id: int, unlabelled: bool) -> NDArray[np.int64]:
    """Sample ids in order of position."""
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        rows = select(Sample.id).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
        ids = np.fromiter(session.scalars(rows), np.int64)
        labelled = list(effective_labels(session, dataset_id)) if unlabelled else []
    return ids[~np.isin(ids, labelled)] if labelled else ids


def _cache(workspace: Workspace, dataset_id: int, model: Backbone) -> FeatureCache:
    folder = workspace.folder("features") / str(dataset_id)
    return FeatureCache(folder, model.name, model.fingerprint, "centre", model.embed_dim)


def _sentences(workspace: Workspace, dataset_id: int, words: str) -> list[str]:
    with workspace.session() as session:
        dataset = session.get_one(Dataset, dataset_id)
        name = next((each.name for each in dataset.classes if each.name.casefold() == words.casefold()), None)
        own = str(dataset.report.get("template") or "")
    if name is None:
        return [words]
    templates = [*shipped_templates("imagenet-7"), *([own] if own else [])]
    return [template.replace("{}", name.replace("_", " ")) for template in templates]


def _text_query(model: Backbone, sentences: Sequence[str]) -> NDArray[np.float32]:
    try:
        if len(sentences[0]) > LONGEST_TEXT:
            raise ConfigError(f"more than {LONGEST_TEXT:,} characters")
        features = model.encode_text(sentences)
    except ConfigError as error:
        most = model.text.tokenizer.context_length
        raise ConfigError(
            "The text is too long for this model to read as a whole.",
            f"Use fewer words: it reads about {most * 3 // 4} at most.",
            str(error),
        ) from error
    mean: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=1).mean(0).cpu().numpy()
    return mean


def _best(
    cache: FeatureCache, ids: NDArray[np.int64], query: NDArray[np.float32], limit: int, check_cancelled: Check
) -> dict[str, Any]:
    """The `limit` rows with the highest cosine to `query` [D]; equal ones in order of position."""
    if not 1 <= limit <= MOST_HITS:
        raise ConfigError(f"{limit} images cannot be shown at once.", f"Ask for 1 to {MOST_HITS:,}.")
    direction = query / max(float(np.linalg.norm(query)), 1e-12)
    scores = np.full(len(ids), -np.inf, np.float32)
    for start in range(0, len(ids), _SLICE):
        check_cancelled()
        part = slice(start, start + _SLICE)
        scores[part] = _cosines(cache, ids[part], direction)
    searched = int(np.isfinite(scores).sum())
    count = min(limit, searched)
    # Sums in another order differ in the last digits: without these, slices change nothing and equal rows stay equal.
    best = np.argsort(-np.round(scores, 6), kind="stable")[:count]
    hits = [{"sample": int(ids[i]), "score": float(scores[i])} for i in best]
    return {"hits": hits, "searched": searched, "missing": len(ids) - searched}


def _cosines(cache: FeatureCache, ids: NDArray[np.int64], direction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every row; minus infinity where there is no usable row."""
    scores = np.full(len(ids), -np.inf, np.float32)
    try:
        rows, there = cache.read(ids.tolist()), np.ones(len(ids), bool)
    except DataError:  # some are not computed: a second look says which
        there = ~np.isin(ids, cache.missing(ids.tolist()))
        rows = cache.read(ids[there].tolist())
    lengths = np.linalg.norm(rows, axis=1)
    with np.errstate(invalid="ignore"):
        found = rows @ direction / np.maximum(lengths, 1e-12)
    scores[there] = np.where(np.isfinite(found), found, -np.inf)
    return scores
