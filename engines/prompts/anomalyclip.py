"""AnomalyCLIP: two prompts that find defects in objects they never name (Zhou et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.attention import are_plain
from engines.backbones.local import LocalTokens, TokenMemory, local_tokens
from engines.errors import ConfigError
from engines.prompts.anomaly_maps import map_terms, smoothed
from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.deep import DeepPrompt, PromptDepth, PromptLength, drawn, drawn_prompts
from engines.prompts.settings import MethodConfig
from engines.prompts.zero_shot import shipped_templates

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

TEMPERATURE = 0.07
"""Fixed, whatever scale the model was trained with."""

Words = Annotated[str, Field(pattern=r"\S", json_schema_extra={"advanced": True})]


class AnomalyCLIPConfig(MethodConfig):
    n_ctx: PromptLength = 12
    depth: PromptDepth = 9
    t_n_ctx: PromptLength = Field(
        4,
        title="Learned words inside the layers",
        description="How many of the first learned words every further prompted layer replaces by its own.",
    )
    image_size: int = Field(
        0,
        ge=0,
        le=4096,
        title="Image size",
        description="Side in pixels to which images are stretched. 0 shows 37 patches where the model was made for 24,"
        " as in the paper (518 pixels for a model of 336): small defects need more than a model’s own size.",
    )
    sigma: float = Field(
        4.0, ge=0, le=100, title="Smoothing", description="By how many pixels of that size a map of defects is blurred."
    )
    normal: Words = Field("object", title="Words for normal", description="What stands behind the learned words.")
    damaged: Words = Field("damaged object", title="Words for defects", description="The same for images with defects.")
    dpam_layer: int = Field(
        0,
        ge=0,
        le=100,
        title="Local layers",
        description="One more than the number of last layers whose patches look at what resembles them (as the official"
        " code counts; 20 in the paper). 0 takes the paper’s share, 19 of 24 layers; 1 takes none.",
        json_schema_extra={"advanced": True},
    )
    features_list: str = Field(
        "",
        pattern=r"^\s*(\d+([ ,]+\d+)*)?\s*$",
        title="Layers that make the map",
        description="Numbers of layers, the first being 1, such as 6 12 18 24. Empty: the last alone, as in the"
        " released scripts.",
        json_schema_extra={"advanced": True},
    )
    ffn: bool = Field(
        False,
        title="Full local layers",
        description="Local layers pass their second half too, and keep nothing of the local layers before them.",
        json_schema_extra={"advanced": True},
    )
    lam: float = Field(
        4.0,
        ge=0,
        le=1000,
        title="Weight of the maps",
        description="How much the marked places count beside the label of the whole image.",
        json_schema_extra={"advanced": True},
    )

    @model_validator(mode="after")
    def _short_enough(self) -> AnomalyCLIPConfig:
        if self.t_n_ctx > self.n_ctx:
            raise ValueError(f"t_n_ctx ({self.t_n_ctx}) may not be larger than n_ctx ({self.n_ctx})")
        return self


class AnomalyCLIP(DeepPrompt):
    """Prompts t_n "… object." and t_a "… damaged object."; p = softmax of cosines over 0.07 (section 4).

    Maps come from a second path through the last layers of the image tower, whose attention compares values with values
    (DPAM): u_l = u_(l-1) + W_o softmax(v v^T / sqrt d) v, read off the ordinary path and never fed back. Positions 1 to
    `t_n_ctx` of both prompts are overwritten in front of text blocks 1 to depth - 1. As in the official code the image
    feature lacks the last norm; position embeddings are always interpolated from the model's own.
    """

    info = MethodInfo(
        name="anomalyclip",
        title="AnomalyCLIP",
        summary="Learns two prompts, one for normal and one for damaged things, from images whose defects were marked."
        " As the prompts never name what is shown, they find defects in other things, too, and mark the places.",
        when="You have images with marked defects of some things, and want to find defects in others.",
        needs="A data set with normal and anomalous images, best with masks of the defects.",
        group="only normal images",
        paper="Zhou, Pang, Tian, He, Chen, “AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly"
        " Detection”, ICLR 2024, arXiv 2310.18961",
        cost="long",
        parity="Features of texts, images and patches of three layers, scores, maps (smoothed, too), every term of the"
        " loss, every gradient and every value after 5 steps equal the official code's to 1e-4, and so do the measures"
        " that it has (average precision of places equals scikit-learn's). Prompts are not rounded to half precision,"
        " and images of a second size do not change the positions of the first, as they do in the official code. The"
        " layers of its class that are never used are left out.",
        reported="ViT-L/14 at 336, trained on MVTec AD (MVTec: on VisA). Image AUROC / average precision: MVTec"
        " 91.5 / 96.2, VisA 82.1 / 85.4, BrainMRI 90.3 / 92.2. Pixel AUROC / PRO: MVTec 91.1 / 81.4, VisA 95.5 / 87.0,"
        " ISIC 89.7 / 78.4.",
    )
    Config: ClassVar[type[MethodConfig]] = AnomalyCLIPConfig
    config: AnomalyCLIPConfig
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "masks"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "zero-shot-anomaly": {
            "epochs": 15,
            "batch_size": 8,
            "learning_rate": 0.001,
            "views": 0,
            "optimizer": "adam",
            "beta1": 0.5,
            "weight_decay": 0,
            "schedule": "constant",
            "warmup_epochs": 0,
            "augmentation": "none",
        }
    }

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        if reason := backbone.supports.reason.get("deep_text_prompts"):
            return f"It learns inside the text tower, but {reason}. Choose another model."
        if reason := backbone.vision.reason:
            return f"It looks at single patches, but {reason}. Choose a model with a ViT image tower."
        if not are_plain(backbone.vision.blocks):
            return "It changes how patches look at one another, which it can do only in CLIP’s own ViT."
        return ""

    def build(self) -> None:
        if len(self.class_names) != 2:
            raise ConfigError(
                f"{self.info.title} tells normal from anomalous, but there are {len(self.class_names)} classes.",
                "Give two classes, the normal one first.",
            )
        config, text, vision = self.config, self.backbone.text, self.backbone.vision
        words = (config.normal, config.damaged)
        self.layouts = [text.layout([each], n_ctx=config.n_ctx) for each in words]
        self.ctx_pos = nn.Parameter(drawn(1, 1, config.n_ctx, text.width))
        self.ctx_neg = nn.Parameter(drawn(1, 1, config.n_ctx, text.width))
        self.compound_prompts_text = drawn_prompts(min(config.depth, text.depth) - 1, config.t_n_ctx, text.width)
        share = round(vision.depth * 19 / 24) if config.dpam_layer == 0 else config.dpam_layer - 1
        self.first_local = vision.depth - min(share, vision.depth)
        self.layers = sorted({int(number) for number in config.features_list.replace(",", " ").split()}) or [
            vision.depth
        ]
        if not 1 <= self.layers[0] <= self.layers[-1] <= vision.depth:
            raise ConfigError(
                f"“{config.features_list}” names a layer that this model does not have.",
                f"Its layers are 1 to {vision.depth}.",
            )
        self.highest = float(len(self.layers))
        self._examples: Examples | None = None
        self._memory: TokenMemory | None = None
        self._marked: Tensor | None = None
        self._numbers: list[int] | None = None

    @property
    def image_size(self) -> int:
        """Side of the square images that it wants to see, in pixels."""
        patch = self.backbone.vision.patch
        return self.config.image_size or round(self.backbone.image_size / patch * 37 / 24) * patch

    def prepare(self, image: Image.Image) -> Tensor:
        """Stretched to a square, whatever its shape."""
        size = (self.image_size, self.image_size)
        return self.backbone.pixels.normalise(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))

    def untrained(self) -> PromptMethod:
        """The same look at an image, judged by hand-written sentences."""
        return _HandWritten(self.backbone, self.class_names, self.config)

    # --- the towers -------------------------------------------------------------

    def raw_text_features(self) -> Tensor:
        """[2, E], normal and damaged."""
        text, deep = self.backbone.text, list(self.compound_prompts_text)
        contexts = (self.ctx_pos[0, 0], self.ctx_neg[0, 0])
        return torch.cat([text.encode_prompts(*prompt, deep) for prompt in zip(self.layouts, contexts, strict=True)])

    def written_features(self, thing: str = "object") -> Tensor:
        """Unit features [2, E] of hand-written sentences about a thing: 7 normal and 5 damaged states, 35 photos."""
        templates = shipped_templates("anomaly-35")
        sides = []
        for states in (shipped_templates("anomaly-normal"), shipped_templates("anomaly-damaged")):
            named = [state.replace("{}", thing.replace("_", " ")) for state in states]
            sentences = [template.replace("{}", name) for name in named for template in templates]
            sides.append(F.normalize(self.backbone.encode_text(sentences), dim=-1).mean(dim=0))
        return F.normalize(torch.stack(sides), dim=-1)

    def raw_image_features(self, pixels: Tensor) -> Tensor:
        return self.see(pixels).image

    @torch.no_grad()
    def see(self, pixels: Tensor) -> LocalTokens:
        """Pixels [B, 3, H, W] of any size; one walk through the frozen tower, both paths side by side."""
        with self.backbone.runtime.autocast():
            pixels = pixels.to(self.backbone.device)
            return local_tokens(self.backbone.vision, pixels, self.first_local, self.layers, self.config.ffn)

    # --- scores and maps --------------------------------------------------------

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        return self._images(pixels, features) @ self._text().T / TEMPERATURE

    def similarity(self, tokens: Tensor, text: Tensor) -> Tensor:
        """Probabilities [B, 1 + N, 2] of tokens [B, 1 + N, E] among text features [2, E]."""
        return (F.normalize(tokens, dim=-1) @ text.T / TEMPERATURE).softmax(dim=-1)

    def side_by_side(self, tokens: Tensor, text: Tensor, size: Sequence[int]) -> Tensor:
        """Maps [B, 2, H, W] of how normal and how damaged each place is; probabilities are stretched, not logits."""
        grid = [side // self.backbone.vision.patch for side in size]
        places = self.similarity(tokens, text)[:, 1:].transpose(1, 2).unflatten(2, grid)
        return F.interpolate(places, size=list(size), mode="bilinear", align_corners=False)

    def maps(self, pixels: Tensor) -> Tensor:
        """How damaged each place of pixels [B, 3, H, W] is, smoothed, [B, H, W] on the CPU."""
        return self.judge(pixels, [self._text()])[0][1]

    @torch.no_grad()
    def judge(self, pixels: Tensor, texts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Scores [B] and smoothed maps [B, H, W], on the CPU, by each of `texts` [2, E], from one look at the images.

        A score is the probability of the second text for the whole image; the map has no say in it.
        """
        seen, found = self.see(pixels), []
        for text in texts:
            score = (F.normalize(seen.image, dim=-1) @ text.T / TEMPERATURE).softmax(dim=-1)[:, 1]
            places = [self.side_by_side(tokens, text, pixels.shape[-2:]) for tokens in seen.layers]
            whole = sum((each[:, 1] + 1 - each[:, 0]) / 2 for each in places)
            assert isinstance(whole, Tensor)
            found.append((score.cpu(), smoothed(whole.cpu(), self.config.sigma)))
        return found

    # --- training ---------------------------------------------------------------

    def start(self, examples: Examples) -> None:
        self._examples, self._memory = examples, TokenMemory() if examples.still else None

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        masks = self._examples.masks if self._examples else None
        self._marked, self._numbers = masks(indices, epoch) if masks else None, indices.tolist()

    def finish(self, examples: Examples) -> None:
        self._examples = self._memory = None

    def _seen(self, pixels: Tensor, numbers: list[int] | None) -> LocalTokens:
        if self._memory is None or numbers is None:
            return self.see(pixels)
        seen = self._memory.recall(numbers, lambda: self.see(pixels))
        device = self.backbone.device
        return LocalTokens(seen.image.to(device), [tokens.to(device) for tokens in seen.layers])

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """CE + lam sum over layers of (focal + dice of both maps) against the masks of `begin_step`.

        Without masks all are empty, for anomalous images too (as in the official code for data sets with labels alone).
        """
        pixels, marked, numbers = required(pixels), self._marked, self._numbers
        self._marked = self._numbers = None  # of this step alone
        seen, text = self._seen(pixels, numbers), self.text_features()
        logits = F.normalize(seen.image, dim=-1) @ text.T / TEMPERATURE
        mask = torch.zeros(len(pixels), *pixels.shape[-2:]) if marked is None else marked
        mask = mask.to(logits)
        total = F.cross_entropy(logits, required(labels))
        for tokens in seen.layers:
            terms = map_terms(self.side_by_side(tokens, text, pixels.shape[-2:]), mask)
            total = total + self.config.lam * sum(terms)
        return total

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """Take over an official checkpoint, {"prompt_learner": ...}; its layers that are never used are left out."""
        super().load_official(state_dict.get("prompt_learner", state_dict))


class _HandWritten(AnomalyCLIP):
    """AnomalyCLIP's eyes with ready-made sentences."""

    def raw_text_features(self) -> Tensor:
        return self.written_features()
