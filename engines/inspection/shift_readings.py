"""Methods whose features come about in their own way, and how each is read."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.errors import ConfigError
from engines.inspection.shift_towers import Look, M, Reading, unit
from engines.prompts.ad_clip import ADCLIP
from engines.prompts.artifact import describe_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.cocoop import CoCoOp
from engines.prompts.coop_descriptions import CoOpDescriptions
from engines.prompts.ctp_tft import CTPTFT
from engines.prompts.dpl_decoupled import DPLDecoupled
from engines.prompts.gopro import GOPro
from engines.prompts.gram import GRAM
from engines.prompts.linear_probe import LinearProbe
from engines.prompts.mocoop import MoCoOp
from engines.prompts.promptkd import PromptKD
from engines.prompts.restore import RESTORE, Surgery
from engines.prompts.shift import States, tower_states
from engines.prompts.spg import NOISE, SPG
from engines.prompts.tfup_t import TFUPT
from engines.prompts.tip_adapter import TipAdapter


class PerImage(Reading[M]):
    """Words that depend on the image; without the prompt they do not."""

    note = "Its words depend on the image. What is said of a class’s words is their mean over the images of the probe."
    text_tower_reason = "Its words change with every image, so only the text tower’s outputs are told."

    learns_words = True

    def words(self, images: Tensor, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        places = torch.arange(len(images)).split(self.at_once)
        parts = [self.conditional(images[p], None if pixels is None else pixels[p]) for p in places]
        return self.words_before, unit(torch.cat(parts))

    @property
    def at_once(self) -> int:
        """Images whose words memory has room for together."""
        layout = getattr(self.method, "layout", None)
        return 1 if layout is None else max(1, self.backbone.text.groups_at_once(layout))

    def conditional(self, images: Tensor, pixels: Tensor | None) -> Tensor:
        """[B, C, D]"""
        raise NotImplementedError


class FromFeature(PerImage[CoCoOp]):
    """CoCoOp: the feature of an image shifts its words."""

    def conditional(self, images: Tensor, pixels: Tensor | None) -> Tensor:
        return self.method.conditional_text_features(images.float())


class FromStyle(PerImage[GOPro]):
    """GOPro: the style of an image makes its words."""

    needs_pixels = True

    def conditional(self, images: Tensor, pixels: Tensor | None) -> Tensor:
        return self.method.conditional_text_features(self.method.looks(pixels))


class FromDomain(PerImage[ADCLIP]):
    """AD-CLIP, as in use: the mapper guesses the words of the source."""

    needs_pixels = True

    def conditional(self, images: Tensor, pixels: Tensor | None) -> Tensor:
        m, seen = self.method, self.method.looks(pixels)
        words = m.context(m.style_mapping_tokens(seen), m.domain_tokens(seen), m.image_tokens(seen))
        return m.conditional_text_features(words)


class Generated(PerImage[SPG]):
    """SPG: the mean over the fixed draws that also answer."""

    def conditional(self, images: Tensor, pixels: Tensor | None) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        noise = torch.stack([torch.randn(NOISE, generator=draw) for _ in range(self.method.config.draws)])
        texts = [
            self.method.conditional_text_features(
                self.method.generator(z.to(images.device).expand(len(images), -1), images.float())
            )
            for z in noise
        ]
        return torch.stack(texts).mean(dim=0)


class PerClass(PerImage[CTPTFT]):
    """CTP + TFT: images depend on the class, too; an image's feature is the unit mean over the classes."""

    needs_pixels = True

    def __init__(self, method: CTPTFT) -> None:
        super().__init__(method)
        if method.config.tune_images:
            self.note += " Its images depend on the class, too; told is their mean over the classes."

    def look(self, raw: Tensor, pixels: Tensor | None = None) -> Look:
        assert pixels is not None
        before, patches = self.method.look(pixels)
        with torch.no_grad():
            texts, images = [], []
            for f, v in zip(before.split(self.at_once), patches.split(self.at_once), strict=True):
                text = self.method.class_texts(F.normalize(self.method.attention(v) @ v, dim=-1))
                texts.append(text)
                images.append(self.method.tuned_images(f, v, text).mean(dim=1))
        before = unit(before)
        after = unit(torch.cat(images)) if self.method.config.tune_images else before
        return Look(before, after, self.ordinary, unit(torch.cat(texts)), self._still(len(before)))


class Mixed(PerImage[MoCoOp]):
    """MoCoOp: the sentences of the experts that an image is sent to, learned and ordinary."""

    @cached_property
    def experts(self) -> tuple[Tensor, Tensor]:
        """[G, C, D] before and after."""
        text = self.backbone.text
        with torch.no_grad():
            frozen = [text.encode_embeddings(each.embeddings, each.eot) for each in self.method.layouts]
            return unit(torch.stack(frozen)), unit(self.method.text_features())

    def words(self, images: Tensor, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        routes = self.method.routes(images.float()).double()
        before, after = (unit(torch.einsum("bg,gcd->bcd", routes, each)) for each in self.experts)
        return before, after

    def walk(self, pixels: Tensor) -> States:
        return tower_states(self.method.vision, self.method.vision.hidden_states(pixels))


class Phrases(Reading[CoOpDescriptions]):
    """CoOp with descriptions: several sentences a class."""

    text_tower_reason = "A class has several sentences, so only the text tower’s outputs are told."

    @cached_property
    def ordinary(self) -> Tensor:
        m = self.method
        layout = self._worded(m.layout, tuple(text for _, text in m.prompts()))
        with torch.no_grad():
            features = self.backbone.text.encode_embeddings(layout.embeddings, layout.eot)
            return unit(m._class_means(features if m.config.combine == "embedding" else F.normalize(features, dim=-1)))


class Decoupled(Reading[DPLDecoupled]):
    """DPL: prompts that stay apart from the tokens in attention, in both towers."""

    image_tower_reason = "Its prompts stand beside the tower’s own attention, so only the tower’s outputs are told."
    text_tower_reason = image_tower_reason

    @cached_property
    def ordinary(self) -> Tensor:
        with torch.no_grad():
            return unit(self.backbone.text.encode_embeddings(self.method.rows, self.method.eot))


class Student(Reading[PromptKD]):
    """PromptKD: its words are its teacher's."""

    note = "Its words are its teacher’s; they are compared with the plain sentence."
    text_tower_reason = "Its words were told by its teacher, so only the text tower’s outputs are told."

    @cached_property
    def words_before(self) -> Tensor:
        config = self.method.config
        learned_on = describe_prompt(config.teacher_prompt)["backbone"]["name"] if config.teacher_prompt else ""
        if (config.teacher or learned_on or self.backbone.name) != self.backbone.name:
            raise ConfigError(
                "This student lives in the feature space of another model, its teacher’s, so there is no before to"
                " compare with.",
                "Look into a run whose teacher is the same model.",
            )
        return unit(self.method.sentence_features([config.template]))


class Residual(Reading[TFUPT]):
    """TFUP-T: something is added to the features of sentences; the text tower stays as it is."""

    @cached_property
    def words_before(self) -> Tensor:
        with torch.no_grad():
            return unit(self.method.raw_text())

    def text_blocks(self) -> Tensor:
        return torch.zeros(self.backbone.text.depth, len(self.method.class_names))


class Remembering(Reading[TipAdapter]):
    """Tip-Adapter: nothing moves, a memory answers as well."""

    note = "It answers from remembered images, too; that moves no feature."


class Restored(Reading[RESTORE]):
    """RESTORE, with a surgery block behind each tower."""

    def surgery(self, features: Tensor) -> Tensor | None:
        return _correction(self.method.visual_adapter, features, self.method.image_ratio)

    @property
    def surgery_words(self) -> Tensor | None:
        with torch.no_grad():
            raw = self.method.raw_text_features()
            return _correction(self.method.text_adapter, raw, self.method.text_ratio)


READINGS: dict[type[PromptMethod], type[Reading[Any]]] = {
    ADCLIP: FromDomain,
    CoCoOp: FromFeature,
    CoOpDescriptions: Phrases,
    CTPTFT: PerClass,
    DPLDecoupled: Decoupled,
    GOPro: FromStyle,
    MoCoOp: Mixed,
    PromptKD: Student,
    RESTORE: Restored,
    SPG: Generated,
    TFUPT: Residual,
    TipAdapter: Remembering,
}


def reading(method: PromptMethod) -> Reading[Any]:
    """How to read `method`.

    Raises:
        ConfigError: it has no words, or finds defects instead of telling classes apart.
    """
    if isinstance(method, GRAM):
        method = method.wrapped
    if isinstance(method, LinearProbe) or method.learns_from == "masks":
        what = "has no words" if isinstance(method, LinearProbe) else "compares places in an image with two states"
        raise ConfigError(
            f"{method.info.title} {what}, so there is no shift of images and words to compare.",
            "Look into a run of another method.",
        )
    found: type[Reading[Any]] = next((READINGS[cls] for cls in type(method).__mro__ if cls in READINGS), Reading)
    return found(method.eval())


def _correction(block: Surgery, features: Tensor, ratio: Tensor) -> Tensor:
    return (block(features, ratio) - features).norm(dim=-1) / features.norm(dim=-1)
