"""MoCoOp: mixture of prompt learning (Du et al., Frontiers in Artificial Intelligence 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.layout import PromptLayout
from engines.backbones.text import TextTower
from engines.backbones.vision import VisionTower, vision_tower
from engines.errors import ConfigError
from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.settings import MethodConfig

CHOSEN = 2
"""How many experts answer for an image."""
AHEAD = 10.0
"""What the best-fitting experts' scores are raised by in the router's target."""
SENTENCE = r"[^;|{}]*\{\}([^;|{}\w][^;|{}]*)?"


class MoCoOpConfig(MethodConfig):
    groups: str = Field(
        "a photo of a {}.;a photo of many {}.;a close-up photo of a {}.|a cropped photo of a {}.;a low resolution photo"
        " of the {}.|a low resolution photo of a {}.|a pixelated photo of the {}.|a pixelated photo of a {}.;a good"
        " photo of the {}.|a good photo of a {}.",
        pattern=rf"^{SENTENCE}([;|]{SENTENCE})*$",
        title="Groups of sentences",
        description="Kinds of pictures in sentences: groups with ; between them, the sentences of a group with |"
        " between them; {} stands for the class name. One prompt is learned for each group and begins as its first"
        " sentence, so name the kinds that you have, such as devices, stains or quality.",
    )
    further_classes: str = Field(
        "",
        title="Further class names",
        description="Names of classes that will come later, with ; between them; no images of them are needed. The"
        " prompts are then held to the sentences of all classes. In tests on new classes their names are added by"
        " themselves, as in the paper: a slight advantage over methods that do not know them.",
        json_schema_extra={"advanced": True},
    )
    text_weight: float = Field(
        5.0,
        ge=0,
        le=1000,
        title="Hold to the sentences",
        description="How firmly every prompt keeps the meaning of its group's sentences.",
    )
    gate_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Guide the choice",
        description="How firmly the choice of prompts for an image follows its likeness to the groups' sentences.",
    )
    train_norms: bool = Field(
        True,
        title="Adjust the image tower",
        description="Also adjust the scaling inside every layer of the image tower, gently. Off is much faster.",
    )
    correction: bool = Field(
        True,
        title="Common correction",
        description="Learn one shift of the text features, common to all prompts.",
        json_schema_extra={"advanced": True},
    )
    clip: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Largest correction",
        description="Longer gradients are cut to this length, as in the official training; 0 leaves them as they are.",
        json_schema_extra={"advanced": True},
    )


class MoCoOp(PromptMethod):
    """G prompts, of which a router takes two for every image; ready-made sentences teach both.

    With unit image features f, t_jc = norm(text(prompt j of class c) + w) and rho = gate(f):
    logits_c = s f . sum of softmax weights times t_jc over the two experts j with the largest rho (not unit length).
    L = CE(logits) + l_t L_text + l_g L_gate, with h_jc the unit mean features of group j's sentences about class c:

    - L_text = CE over classes k of t_jc . h_jk with target c, mean over j and c; plain cosines, no temperature.
    - L_gate = CE(rho, softmax(tau)), tau_j = f . h_jy raised by 10 for the two largest. As in the official code the
      gradient also flows through this target into the norms of the image tower.

    Norms in front of the attention and the MLP of every image block are trained at a tenth of the step size, on copies
    of the method's own. Not taken over: words counted at spaces (tokens are counted, so that start and end stay
    frozen), noise that no loss sees, and experts left out of batches of fewer than four images. Kept: learned prompts
    have no full stop, except where L_text covers further classes.
    """

    info = MethodInfo(
        name="mocoop",
        title="MoCoOp",
        summary="Learns several prompts, one for each kind of picture that you describe, and a small router that picks"
        " the two that suit an image best. Images of unlike quality or from unlike devices need not share one prompt.",
        when="Your images differ much in how they were taken, and you can say in which ways.",
        paper="Du, Niu, Zhao, “Mixture of Prompts Learning for Vision-Language Models”, Frontiers in Artificial"
        " Intelligence 8, 2025, 1580973, arXiv 2409.12011",
        cost="minutes",
        parity="Features of both sides, sentence features, router, chosen experts, logits, three terms of the loss,"
        " gradients and values after 5 steps equal the official code's to 1e-4 (nothing cut, no further classes).",
        reported="The paper tells of gains on 11 data sets; none of its tables could be read.",
    )
    Config = MoCoOpConfig
    config: MoCoOpConfig
    frozen_images: bool = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"epochs": 25, "batch_size": 32, "learning_rate": 0.032, "warmup_epochs": 3}
        for protocol in ("few-shot", "base-to-new")
    }
    official_names: ClassVar[dict[str, str]] = {
        "before.": "prompt_learner.ctx_before_",
        "after.": "prompt_learner.ctx_after_",
        "gate.": "prompt_learner.gate.",
        "w": "prompt_learner.w",
    }

    @classmethod
    def official_name(cls, name: str) -> str:
        if not name.startswith("norms."):
            return super().official_name(name)
        _, number, leaf = name.split(".")
        block, which = divmod(int(number), 2)
        return f"image_encoder.transformer.resblocks.{block}.ln_{which + 1}.{leaf}"

    def build(self) -> None:
        text, width = self.backbone.text, self.backbone.embed_dim
        self.templates = [[each.strip() for each in group.split("|")] for group in self.config.groups.split(";")]
        self.layouts = [layout(text, self.class_names, group[0]) for group in self.templates]
        words = [each.embeddings[0, each.slots[0] >= 0] for each in self.layouts]  # learned ones begin as they stand
        split = [(rows, each.prefix - each.start) for rows, each in zip(words, self.layouts, strict=True)]
        self.before = nn.ParameterList(rows[:n].clone() for rows, n in split)
        self.after = nn.ParameterList(rows[n:].clone() for rows, n in split)
        self.gate = nn.Linear(width, len(self.templates))
        self.w = nn.Parameter(torch.zeros(1, width), requires_grad=self.config.correction)
        self.vision, norms = _with_own_norms(self.backbone)
        self.norms = nn.ModuleList(norms if self.config.train_norms else [])
        self.frozen_images = not self.norms  # as where the image tower has no such norms
        self._share = 0.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        norms = set(self.norms.parameters())
        others = [p for p in self.trainable_parameters().values() if p not in norms]
        return [{"params": others}, {"params": list(self.norms.parameters()), "rate": 0.1}]

    # --- what the experts say -----------------------------------------------------

    @property
    def all_class_names(self) -> list[str]:
        """The C classes and behind them the further ones, C' in all."""
        further = [name.strip() for name in self.config.further_classes.split(";")]
        return list(dict.fromkeys([*self.class_names, *filter(None, further), *self.other_classes]))

    @cached_property
    def all_layouts(self) -> list[PromptLayout]:
        """The prompts of all C' classes, which end in a full stop."""
        return [layout(self.backbone.text, self.all_class_names, group[0], stop=True) for group in self.templates]

    @cached_property
    def sentences(self) -> Tensor:
        """h [G, C', D]: unit mean of the unit features of each group's sentences, computed once."""
        names = [name.replace("_", " ") for name in self.all_class_names]
        groups = [[f"{each.rstrip('. ')}.".replace("{}", name) for name in names for each in g] for g in self.templates]
        features = F.normalize(self.backbone.encode_text([text for group in groups for text in group]), dim=-1)
        parts = [part.view(len(names), -1, features.shape[-1]) for part in features.split(list(map(len, groups)))]
        return F.normalize(torch.stack([part.mean(dim=1) for part in parts]), dim=-1)

    def experts(self, layouts: Sequence[PromptLayout]) -> Tensor:
        """Unit features [G, C, D] of the learned prompts around the class names of `layouts`."""
        learned = zip(layouts, self.before, self.after, strict=True)
        raw = [self.backbone.text.encode_prompts(each, torch.cat([b, a])) for each, b, a in learned]
        return F.normalize(torch.stack(raw) + self.w, dim=-1)

    def text_features(self) -> Tensor:
        """t [G, C, D], of every expert: which of them count depends on the image."""
        return self.experts(self.layouts)

    def image_features(self, pixels: Tensor) -> Tensor:
        if self.frozen_images:
            return super().image_features(pixels)
        return F.normalize(self.vision.encode(pixels.to(self.backbone.device)), dim=-1)

    def routes(self, images: Tensor) -> Tensor:
        """How much each expert counts for unit image features [B, D]: [B, G], zero for all but two."""
        best, chosen = self.gate(images).topk(min(CHOSEN, len(self.templates)), dim=1)
        return torch.zeros_like(self.gate(images)).scatter(1, chosen, best.softmax(dim=1))

    def mixed(self, images: Tensor, text: Tensor) -> Tensor:
        """Logits [B, C] of unit image features [B, D] and the experts' text features [G, C, D]."""
        return self.backbone.logit_scale * torch.einsum("bd,bg,gcd->bc", images, self.routes(images), text)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        return self.mixed(self._images(pixels, features), self._text())

    # --- loss -----------------------------------------------------------------------

    def text_term(self, text: Tensor) -> Tensor:
        """L_text of the learned prompts of all classes [G, C', D]."""
        likeness = text @ self.sentences.transpose(1, 2)
        target = torch.arange(likeness.shape[1], device=likeness.device).expand(likeness.shape[:2])
        return F.cross_entropy(likeness.flatten(0, 1), target.flatten())

    def gate_target(self, images: Tensor, labels: Tensor) -> Tensor:
        """What the router should say [B, G]: nearly one half for the two groups whose sentences fit best."""
        fit = torch.einsum("bd,gbd->bg", images, self.sentences[:, labels])
        best = fit.topk(min(CHOSEN, len(self.templates)), dim=1).indices
        return (fit + torch.zeros_like(fit).scatter(1, best, AHEAD)).softmax(dim=1)

    def loss_terms(
        self, pixels: Tensor | None, labels: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy, L_text and L_gate; not weighted."""
        images, text = self._images(pixels, features), self.text_features()
        further = len(self.all_class_names) > len(self.class_names)
        held = self.text_term(self.experts(self.all_layouts) if further else text)
        guided = F.cross_entropy(self.gate(images), self.gate_target(images, labels))
        return F.cross_entropy(self.mixed(images, text), labels), held, guided

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        cross_entropy, held, guided = self.loss_terms(pixels, required(labels), features)
        return cross_entropy + self.config.text_weight * held + self.config.gate_weight * guided

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """As for every method; behind the last part of a batch the gradient is cut to its largest length."""
        learned = list(self.trainable_parameters().values())
        if all(p.grad is None for p in learned):
            self._share = 0.0
        loss = super().backward(pixels, labels, features=features, weight=weight)
        self._share += weight
        if self.config.clip and self._share > 1 - 1e-6:
            nn.utils.clip_grad_norm_(learned, self.config.clip)
        return loss


def layout(text: TextTower, class_names: Sequence[str], template: str, stop: bool = False) -> PromptLayout:
    """Prompts of `template` without its full stop or with one; all words around the class name are learned."""
    words, _, after = template.rstrip(". ").partition("{}")
    words, names, tokens = words.strip(), tuple(name.replace("_", " ").strip() for name in class_names), text.tokenizer
    before, behind = tokens.pieces(words), _continued(text, "a", after)
    n_before, n_ctx, first = len(before), len(before) + len(behind), len(tokens.start)
    if not n_ctx:
        raise ConfigError(
            "A group begins with a sentence that is nothing but the class name, so there is nothing to learn.",
            "Write words around it, or put another sentence of the group first.",
        )
    spelled = [_continued(text, words, f" {name}") for name in names]
    ending = [*(_continued(text, "a", ".") if stop else []), *tokens.end]
    prompts = [[*tokens.start, *before, *name, *behind, *ending] for name in spelled]
    lengths, name_lengths = tuple(map(len, prompts)), tuple(map(len, spelled))
    if max(lengths) > tokens.context_length:
        raise ConfigError(
            f"The prompt of class “{names[lengths.index(max(lengths))][:60]}” has {max(lengths)} tokens, but this text"
            f" tower reads at most {tokens.context_length}.",
            "Shorten the class name or the first sentence of each group.",
        )
    length = text.padded_length or max(lengths)
    slots = torch.full((len(names), length), -1)
    slots[:, first : first + n_before] = torch.arange(n_before)
    for row, n_name in zip(slots, name_lengths, strict=True):
        row[first + n_before + n_name :][: len(behind)] = torch.arange(n_before, n_ctx)
    ids = torch.tensor([prompt + [tokens.pad] * (length - len(prompt)) for prompt in prompts])
    ids, slots = ids.to(text.runtime.device), slots.to(text.runtime.device)
    with torch.no_grad():
        rows = text.embedding(ids)
    place = "middle" if behind else "end"
    return PromptLayout(names, n_ctx, place, ids, slots, rows, lengths, name_lengths, first, first + n_before)


def _continued(text: TextTower, words: str, more: str) -> list[int]:
    """Token ids of `more` as they come out behind `words`."""
    return text.tokenizer.pieces(words + more)[len(text.tokenizer.pieces(words)) :]


def _with_own_norms(backbone: Backbone) -> tuple[VisionTower, list[nn.Module]]:
    """An image tower on the backbone's frozen tensors, but with trainable norms of its own in front of the attention
    and the MLP of every block; and these norms, two for each block."""
    visual = backbone.model.visual
    shared = {id(tensor): tensor for tensor in chain(visual.parameters(), visual.buffers())}
    tower = vision_tower(SimpleNamespace(visual=deepcopy(visual, shared)), backbone.runtime)
    norms = [part for block in tower.blocks for part in block.children() if isinstance(part, nn.LayerNorm)]
    for norm in norms:
        norm.weight, norm.bias = nn.Parameter(norm.weight.clone()), nn.Parameter(norm.bias.clone())
    return tower, list(norms)
