"""Settings that several methods share: annotated types that carry limits, title and description."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

ContextLength = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        title="Learned words",
        description="How many word places in front of the class name are learned (context tokens).",
    ),
]
StartingWords = Annotated[
    str,
    Field(
        title="Start from these words",
        description="For example “a photo of a”. The learned words then begin there, and there are as many of them as"
        " words given. Empty: they begin at random.",
    ),
]
ClassPosition = Annotated[
    Literal["end", "middle", "front"],
    Field(
        title="Place of the class name",
        description="Whether the class name stands behind, amid or in front of the learned words.",
    ),
]
ClassSpecific = Annotated[
    bool,
    Field(
        title="Separate words for every class",
        description="Class-specific context: more freedom, needs more labelled images, cannot be used on new classes."
        " Has no effect together with starting words.",
    ),
]
CountTokens = Annotated[
    bool,
    Field(
        title="Count word pieces",
        description="Starting words may consist of several pieces. The official code learns as many pieces as there are"
        " words and leaves the rest as they are; switch on to learn all pieces.",
        json_schema_extra={"advanced": True},
    ),
]
Sentence = Annotated[
    str,
    Field(
        title="Sentence",
        description="The sentence around each class name; {} stands for the name.",
        pattern=r"\{\}",
    ),
]
PLAIN = "a photo of a {}."
"""The sentence of all everyday photos in the papers."""
