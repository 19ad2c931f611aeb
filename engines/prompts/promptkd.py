"""PromptKD: unsupervised prompt distillation (Li et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import normalize

from engines.backbones import Backbone, load_backbone
from engines.errors import ConfigError, PromptloupeError
from engines.prompts.artifact import describe_prompt, load_prompt
from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.deep import PromptDepth, PromptLength
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.registry import create_method
from engines.prompts.vpt import VPT, VPTConfig

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

MOMENTUM = 0.1
"""How far one batch moves the running statistics of the projector's norm."""


class Teacher(Protocol):
    """Whom a student asks. Features are unit length, [.., D_T]; the student's own width may be another."""

    logit_scale: Tensor

    def class_vectors(self, class_names: list[str]) -> Tensor:
        """W_T [C, D_T]."""

    def image_features(self, pixels: Tensor) -> Tensor:
        """[B, D_T] of pixels [B, 3, H, W] as the student sees them, without gradient."""


class PromptTeacher:
    """A frozen prompt as a teacher, learned or ready-made, on the student's own model or on another one."""

    def __init__(self, prompt: PromptMethod, student: Backbone) -> None:
        if type(prompt).logits is not PromptMethod.logits:
            what = f"{prompt.info.title} cannot teach: its answers are not the likeness of an image to fixed text."
            raise ConfigError(what, "Choose a prompt that another method learned, such as PromptSRC.")
        self.prompt, self.student = prompt.eval().requires_grad_(False), student
        self.logit_scale = prompt.backbone.logit_scale

    @torch.no_grad()
    def class_vectors(self, class_names: list[str]) -> Tensor:
        known = self.prompt.class_names
        if set(class_names) <= set(known):
            return self.prompt.text_features()[[known.index(name) for name in class_names]]
        return self.prompt.for_classes(class_names).text_features()

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> Tensor:
        return self.prompt.image_features(self.as_seen(pixels))

    def as_seen(self, pixels: Tensor) -> Tensor:
        """The student's pixels as the teacher's model expects them: another size, other means and deviations."""
        ours, theirs = self.student.pixels, self.prompt.backbone.pixels
        if ours.size != theirs.size:
            pixels = F.interpolate(pixels, (theirs.size, theirs.size), mode="bicubic", antialias=True)
        if (ours.mean, ours.std) == (theirs.mean, theirs.std):
            return pixels
        between = zip(ours.mean, ours.std, theirs.mean, theirs.std, strict=True)
        shifts, factors = zip(*(((m2 - m1) / s1, s2 / s1) for m1, s1, m2, s2 in between), strict=True)
        return normalize(pixels, list(shifts), list(factors))


class PromptKDConfig(VPTConfig):
    n_ctx_vision: PromptLength = Field(
        4, title="Learned patches", description="How many learned places stand beside the patches of every image."
    )
    prompt_depth_vision: PromptDepth = Field(
        9,
        title="Prompted layers",
        description="How many layers, from the first on, get learned places of their own. The paper takes 9, and 3"
        " where the teacher learned on another data set.",
    )
    teacher: str = Field(
        "",
        title="Teacher’s model",
        description="Name of the model that teaches; a larger one is worth the time. Empty: the one that the teacher’s"
        " prompt was learned on, or else the student’s own.",
    )
    teacher_prompt: str = Field(
        "",
        title="Teacher’s prompt",
        description="Folder of a prompt that the teacher learned before, such as one of PromptSRC from a few labelled"
        " images (the folder with prompt.json). Empty: the teacher takes the sentence.",
    )
    template: Sentence = Field(
        PLAIN,
        title="Sentence",
        description="The sentence of a teacher without a learned prompt; {} stands for the class name.",
    )
    weight: float = Field(
        10.0,
        gt=0,
        le=1000,
        title="Weight of the teacher",
        description="How hard each step follows the teacher. The paper’s weight of 1000 (or 200) is divided by the"
        " number of classes, which makes 1 to 27 for most of its data sets; this is the quotient.",
    )
    temperature: float = Field(
        1.0,
        ge=0.01,
        le=100,
        title="Softness",
        description="Above 1 the student also copies how the teacher ranks unlikely classes.",
        json_schema_extra={"advanced": True},
    )


class PromptKD(VPT):
    """A student that copies a teacher's answers: deep image prompts and a projector P into the teacher's space.

    L = w tau^2 / B sum_i KL(p_T || p_S), p = softmax(z / tau), z_S = s_S u_S . W_T, z_T = s_T u_T . W_T, u_S the unit
    P(g_S(x)), over all classes of the run; w is the paper's lambda_KD / C. W_T is computed once and stands in
    `class_vectors`, so that a trained student needs neither the teacher nor a text tower. P is two 1x1 convolutions
    around batch norm and ReLU, made when the teacher is needed first. Batch statistics serve in `loss` while training,
    running ones everywhere else and for a single image, which has none; only `backward` moves the running ones. Where a
    lack of memory splits a batch, each part is normed by itself.

    Not taken over: the choice of the best pass on test images (the last counts), the teacher's fixed depth and length.
    """

    info = MethodInfo(
        name="promptkd",
        title="PromptKD",
        summary="A teacher, which may be a larger model or a prompt learned from a few labelled images, says what it"
        " thinks of your images without labels, and a student learns to answer alike. The student is small and quick.",
        when="You have many images without labels, and a better model or prompt that is too slow for daily use.",
        paper="Li, Li, Fu, Zhang, Wang, Chen, Yang, “PromptKD: Unsupervised Prompt Distillation for Vision-Language"
        " Models”, CVPR 2024, arXiv 2403.02781",
        needs="Images without labels, class names, and a teacher: a larger model, or better a prompt that was learned"
        " from a few labelled images before.",
        group="no labels",
        cost="minutes",
        parity="Teacher's features, class vectors and logits, student's features before and behind the projector in"
        " both modes of its norm, logits, loss, every gradient, every value and the running statistics after 5 steps"
        " equal the official code's to 1e-4 (2 and 3 layers; 2 and 4 patches; a made-up teacher and the official one)."
        " Prompts are not rounded to half precision on the way in.",
        reported="ViT-B/16 taught by ViT-L/14 with PromptSRC, mean of 11 data sets, base / new / harmonic mean: 86.96 /"
        " 80.73 / 83.73; from ImageNet to 10 other data sets 71.33. Unlabelled images of all classes were used, and the"
        " best pass was chosen on test images.",
    )
    Config = PromptKDConfig
    config: PromptKDConfig
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "unlabelled"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"epochs": 20, "batch_size": 8, "learning_rate": 0.005}
        for protocol in ("few-shot", "base-to-new", "unsupervised")
    }
    projector: nn.Sequential
    class_vectors: Tensor

    @classmethod
    def official_name(cls, name: str) -> str:
        if name == "class_vectors":
            return ""
        return super().official_name(name.replace("projector.", "VPT_image_trans.conv1."))

    def build(self) -> None:
        super().build()
        self._teacher: Teacher | None = None
        self._seed = int(torch.randint(2**31, ()))

    @property
    def teacher(self) -> Teacher:
        """The one that the settings name, looked up once; an error in words where it is not at hand or cannot teach."""
        if self._teacher is None:
            self._teacher = self._find_teacher()
        return self._teacher

    def _find_teacher(self) -> Teacher:
        own, name, folder = self.backbone, self.config.teacher, Path(self.config.teacher_prompt).expanduser()
        if self.config.teacher_prompt and not name:
            learned_on = describe_prompt(folder)["backbone"]
            name = "" if learned_on["fingerprint"] == own.fingerprint else learned_on["name"]
        other = name and name != own.name
        backbone = load_backbone(name, device=own.device, precision=own.runtime.precision) if other else own
        if self.config.teacher_prompt:
            return PromptTeacher(load_prompt(folder, backbone), own)
        return PromptTeacher(create_method("zero-shot", backbone, self.class_names, template=self.config.template), own)

    def learn_from(self, teacher: Teacher) -> None:
        """Take `teacher` in the place of the one that the settings name; P begins anew where the widths differ."""
        vectors = teacher.class_vectors(self.class_names)
        self._teacher = teacher
        self._make_room(vectors.shape[1])
        self.class_vectors.copy_(vectors)
        self._fixed_text = None

    def _make_ready(self) -> None:
        if "projector" not in self._modules:
            self.learn_from(self.teacher)

    def _make_room(self, width: int) -> None:
        """P and `class_vectors` for a teacher of this width, as they begin; they stay where they have it already."""
        if "projector" in self._modules and self.class_vectors.shape[1] == width:
            return
        with torch.random.fork_rng(devices=[]):  # the same start, whatever looking up the teacher has drawn
            torch.manual_seed(self._seed)
            layers = (nn.Conv2d(self.backbone.embed_dim, width, 1), nn.BatchNorm2d(width, momentum=0.0))
            self.projector = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, width, 1)).to(self.backbone.device)
        self.register_buffer("class_vectors", torch.zeros(len(self.class_names), width, device=self.backbone.device))

    def text_features(self) -> Tensor:
        self._make_ready()
        return self.class_vectors

    def adapt(self, raw: Tensor, batch_statistics: bool = False) -> Tensor:
        """Unit P(raw) [B, D_T] of raw image features [B, D]."""
        self._make_ready()
        self.projector[1].train(batch_statistics and len(raw) > 1)
        return F.normalize(self.projector(raw[:, :, None, None]).flatten(1), dim=-1)

    def student_logits(self, pixels: Tensor) -> Tensor:
        """z_S [B, C] as the loss sees them: normed by the batch while training."""
        images = self.adapt(self.raw_image_features(pixels), self.training)
        return self.backbone.logit_scale * images @ self.text_features().T

    def teacher_logits(self, pixels: Tensor) -> Tensor:
        """z_T [B, C]."""
        return self.teacher.logit_scale * self.teacher.image_features(pixels) @ self.text_features().T

    def start(self, examples: Examples) -> None:
        self.learn_from(self.teacher)

    def divergence(self, pixels: Tensor) -> Tensor:
        """KL(p_T || p_S), summed over the batch."""
        student, teacher = self.student_logits(pixels), self.teacher_logits(pixels)
        student, teacher = ((logits / self.config.temperature).log_softmax(dim=1) for logits in (student, teacher))
        return F.kl_div(student, teacher, reduction="sum", log_target=True)

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """As the class says; labels are not read."""
        pixels = required(pixels)
        return self.config.weight * self.config.temperature**2 / len(pixels) * self.divergence(pixels)

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        self._make_ready()
        norm = cast(nn.BatchNorm2d, self.projector[1])
        norm.momentum = MOMENTUM * weight
        try:
            return super().backward(pixels, labels, features=features, weight=weight)
        finally:
            norm.momentum = 0.0

    def for_classes(self, class_names: list[str]) -> Self:
        """The same student among other classes. Those it was not taught are asked of its teacher: a `ConfigError` where
        that is not at hand or not the same any more."""
        own, other = self.text_features(), type(self)(self.backbone, class_names, self.config)
        if set(class_names) <= set(self.class_names):
            vectors = own[[self.class_names.index(name) for name in class_names]]
        else:
            vectors = self._asked_for(class_names)
        other._teacher = self._teacher
        other.load_state_dict(self.state_dict() | {"class_vectors": vectors})
        return other.train(self.training)

    def _asked_for(self, class_names: list[str]) -> Tensor:
        """The teacher's vectors for new names."""
        try:
            again, vectors = (self.teacher.class_vectors(names) for names in (self.class_names, class_names))
        except PromptloupeError as error:
            raise ConfigError(
                "The student knows only the classes it was taught, and its teacher cannot be asked about others.",
                "Put the teacher’s model and prompt where they were, or train the student on images of these classes.",
                str(error),
            ) from error
        if again.shape != self.class_vectors.shape or float((again * self.class_vectors).sum(dim=1).min()) < 0.99:
            what = "The teacher is not the same any more: it describes the student’s own classes in another way."
            raise ConfigError(what, "Put back the model and the prompt that taught it.")
        return vectors

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """As for every method; the class vectors are the teacher's, which official checkpoints of students lack."""
        self._make_ready()
        super().load_official(state_dict)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        vectors = state_dict.get(f"{prefix}class_vectors")
        if vectors is not None and len(vectors) == len(self.class_names):
            self._make_room(vectors.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)
