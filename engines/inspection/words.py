"""What a prompt says: the words nearest to its context tokens, and where class words and images lie.

Nearest words as in CoOp, section 4.4 (Zhou et al., IJCV 2022): in the space of the text tower's token embeddings.
Before is the ready-made sentence in front of the frozen towers, after is the learned prompt. Of methods whose words
depend on the image, the mean over the images stands for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import load_backbone
from engines.backbones.text import TextTower
from engines.errors import ConfigError, PromptloupeError
from engines.inspection.shift_measure import probe
from engines.inspection.shift_readings import reading
from engines.inspection.words_answers import ContextToken, Geometry, Margin, Near, WordsAnswer, keep_words, read_words
from engines.prompts import load_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.context import ContextPrompt
from engines.prompts.coop_descriptions import CoOpDescriptions
from engines.prompts.deep import DeepPrompt
from engines.prompts.mocoop import MoCoOp
from engines.runs.material import Item, gather
from engines.runs.predict import prompt_folder
from engines.runs.views import Features, pixel_batches
from engines.store import Run, Workspace

NEAREST = 5
MOST_IMAGES = 1000
"""Test images that are looked at; evenly over classes where there are more."""
SAMPLED = 512
"""Vocabulary entries that the usual distance between neighbours is the median of."""
BATCH = 64
Progress = Callable[[float, str], None]


@dataclass
class _Seen:
    """N images and C class words, before and after; all unit length but means of words, which are shorter."""

    labels: Tensor
    images_before: Tensor
    images_after: Tensor
    words_after: Tensor
    cosines_after: Tensor
    """[N, C]"""


def what_it_says(
    workspace: Workspace,
    run_id: str,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> WordsAnswer:
    """What the prompt of a finished run says; kept in the workspace, and given again when it is asked for again.

    Raises:
        ConfigError: there is no such run, it is not finished, or it tells damage from sound instead of classes.
        DataError: its images are not there any more.
    """
    folder = prompt_folder(workspace, run_id)
    if (known := read_words(workspace, run_id)) is not None:
        return known
    progress(0.0, "Loading the model")
    with workspace.session() as session:
        run = session.get_one(Run, run_id)
    method = load_prompt(folder, load_backbone(run.backbone))
    if method.learns_from == "masks":
        raise ConfigError(
            f"{method.info.title} tells damage from sound, so it has no words of classes.",
            "Look at its maps of defects on the page Runs.",
        )
    tokens, unreadable, notes = context_tokens(method)
    items, labels = _probe(workspace, run, method)
    with torch.no_grad():
        before = F.normalize(method.untrained().text_features(), dim=-1)
        seen, reason = _look(workspace, run, method, items, labels, progress, check_cancelled)
    answer = WordsAnswer(
        run_id,
        run.name,
        method.info.name,
        method.class_names,
        tokens,
        unreadable,
        usual_distance(method.backbone.text) if tokens else None,
        (before @ before.T).tolist(),
        similarity(seen.words_after) if seen is not None else None,
        geometry(seen.images_before, before, seen.labels) if seen is not None else None,
        geometry(seen.images_after, F.normalize(seen.words_after, dim=-1), seen.labels) if seen is not None else None,
        _margins(method.class_names, seen, before),
        len(items),
        [*notes, *filter(None, [reason])],
    )
    keep_words(workspace, answer)
    return answer


# --- context tokens -----------------------------------------------------------


def context_tokens(method: PromptMethod, nearest: int = NEAREST) -> tuple[list[ContextToken], str, list[str]]:
    """(tokens with their nearest words, why there are none, notes) of a prompt."""
    inner = getattr(method, "wrapped", method)
    owners, contexts, notes = _contexts(inner)
    if not contexts:
        return [], _unreadable(inner), []
    text = method.backbone.text
    tokens = [
        ContextToken(of, place, [Near(near.word.strip(), float(near.distance)) for near in words])
        for of, context in zip(owners, contexts, strict=True)
        for place, words in enumerate(text.nearest_words(context, nearest))
    ]
    return tokens, "", notes


def _contexts(method: PromptMethod) -> tuple[list[str], list[Tensor], list[str]]:
    """(owner of each, contexts [M, d], notes): one context for all classes, or one each."""
    if isinstance(method, MoCoOp):
        groups = [f"prompt {n}: {each[0]}" for n, each in enumerate(method.templates, 1)]
        return groups, [torch.cat([b, a]) for b, a in zip(method.before, method.after, strict=True)], []
    if isinstance(method, DeepPrompt) and isinstance(context := getattr(method, "ctx", None), Tensor):
        deeper = len(method.text_prompts()) - 1
        note = f"Read are the places of the first layer; {deeper} further layers have places of their own, no words."
        return [""], [context], [note] if deeper else []
    if not isinstance(method, ContextPrompt):
        return [], [], []
    own = type(method).context is not ContextPrompt.context
    with torch.no_grad():
        try:
            context = method.context()
        except TypeError:  # the context of this method is made for each image
            own, context = False, method.ctx
    moved = _depends_on_image(method) and not own
    notes = ["Every image moves these words a little; they are told as they stand before that."] if moved else []
    if context.dim() == 2:
        return [""], [context], notes
    if isinstance(method, CoOpDescriptions):
        return [text for _, text in method.prompts()], list(context), notes
    return list(method.class_names), list(context), notes


def _depends_on_image(method: PromptMethod) -> bool:
    return hasattr(method, "conditional_text_features")


def _unreadable(method: PromptMethod) -> str:
    title = method.info.title
    if method.fitting == "none":
        return f"{title} uses ready-made sentences: no words were learned."
    return f"{title} learns nothing that stands in the place of words, so there are none to read."


@torch.no_grad()
def usual_distance(text: TextTower) -> float:
    """Median distance of a vocabulary entry from the nearest other one, over `SAMPLED` entries spread evenly."""
    table = next(text.embedding.parameters())
    places = torch.linspace(0, len(table) - 1, min(SAMPLED, len(table)), device=table.device).long()
    distance = torch.cdist(table[places], table)
    distance[torch.arange(len(places)), places] = torch.inf
    return float(distance.min(dim=1).values.median())


# --- images and class words ---------------------------------------------------


def _probe(workspace: Workspace, run: Run, method: PromptMethod) -> tuple[list[Item], Tensor]:
    """Test images of the prompt's own classes, and their labels."""
    material = gather(workspace, run, method.learns_from)
    places = [material.class_names.index(name) for name in method.class_names if name in material.class_names]
    if len(places) < len(method.class_names):  # renamed since; the order tells which is which
        places = list(range(len(method.class_names)))
    items, _ = material.restricted(places, material.test)
    return material.restricted(places, probe(items, MOST_IMAGES, seed=1))


def _look(
    workspace: Workspace,
    run: Run,
    method: PromptMethod,
    items: list[Item],
    labels: Tensor,
    progress: Progress,
    check_cancelled: Callable[[], None],
) -> tuple[_Seen | None, str]:
    """What was seen, or why nothing could be."""
    if not items:
        return None, "There is no labelled test image, so images and words are not compared."
    try:
        asked = reading(method)
    except PromptloupeError:
        return None, f"{method.info.title} has no words of classes, so images and words are not compared."
    assert run.dataset_id is not None
    raw = Features(workspace, method.backbone, run.dataset_id).get(
        items, lambda fraction, said: progress(0.5 * fraction, f"Looking at images, {said}"), check_cancelled
    )
    pixels: Iterator[Tensor | None] = iter([])
    if asked.needs_pixels:
        pixels = iter(pixel_batches(workspace, method.prepare, items, BATCH))
    before, after, cosines, done = [], [], [], 0
    words = torch.zeros(())
    for part in raw.split(BATCH):
        check_cancelled()
        look = asked.look(part, next(pixels, None))
        own = look.words_after
        words = words + (own.double().mean(dim=0) if own.dim() == 3 else own.double()).cpu() * len(part)
        before.append(look.before.float().cpu())
        after.append(look.after.float().cpu())
        cosines.append(look.cosines(learned=True).float().cpu())
        done += len(part)
        progress(0.5 + 0.5 * done / len(items), f"With the prompt, {done:,} of {len(items):,} images")
    seen = _Seen(labels, torch.cat(before), torch.cat(after), (words / done).float(), torch.cat(cosines))
    return seen, asked.note


def similarity(words: Tensor) -> list[list[float]]:
    """[C][C] cosines of words [C, D]."""
    unit = F.normalize(words.double(), dim=-1)
    return [[float(v) for v in row] for row in unit @ unit.T]


def geometry(images: Tensor, words: Tensor, labels: Tensor) -> Geometry:
    """Gap, alignment and uniformity of unit images [N, D] and unit words [C, D]; labels [N] are rows of `words`."""
    x, t = images.double().cpu(), words.double().cpu()
    gap = (x.mean(dim=0) - t.mean(dim=0)).norm()
    alignment = (x - t[labels]).square().sum(dim=1).mean()
    return Geometry(float(gap), float(alignment), uniformity(x), uniformity(t))


def uniformity(points: Tensor) -> float | None:
    """log mean over pairs of exp(-2 |a - b|^2) of points [N, D]; None for fewer than two."""
    if len(points) < 2:
        return None
    return float(torch.pdist(points).square().mul(-2).exp().mean().log())


def margins(cosines: Tensor, labels: Tensor) -> Tensor:
    """[N]: cosine [N, C] with the own class minus the largest with another; 1 class has none (NaN)."""
    if cosines.shape[1] < 2:
        return torch.full((len(cosines),), torch.nan)
    own = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -torch.inf).max(dim=1).values
    return own - others


def _margins(names: list[str], seen: _Seen | None, words: Tensor) -> list[Margin]:
    if seen is None or len(names) < 2:
        return []
    before = margins(seen.images_before @ words.float().cpu().T, seen.labels)
    after = margins(seen.cosines_after, seen.labels)
    found = []
    for position, name in enumerate(names):
        own = seen.labels == position
        if bool(own.any()):
            found.append(Margin(name, int(own.sum()), float(before[own].mean()), float(after[own].mean())))
    return found
