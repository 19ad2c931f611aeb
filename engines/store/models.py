"""The tables of a workspace.

One SQLAlchemy model a table. Times are UTC. Free-form values that only the program reads are JSON.
"""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Enum, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint, event
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times in, aware UTC times out (SQLite itself forgets the zone)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A random id of 12 hexadecimal digits, used where a folder carries the id."""
    return uuid.uuid4().hex[:12]


class Base(DeclarativeBase):
    """Common base: JSON columns for dict and list annotations, UTC times."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime}


class Dataset(Base):
    """A set of images that was imported together."""

    __tablename__ = "dataset"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    reader: Mapped[str] = mapped_column(String(40))
    source: Mapped[str] = mapped_column(Text, default="")
    description: Mapped[str] = mapped_column(Text, default="")
    size: Mapped[int] = mapped_column(default=0)
    """Number of samples."""
    fingerprint: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 over the sorted content hashes, labels and splits: equal on every machine."""
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    labelling: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """How its images are labelled, as `engines.labelling` reads it: strategy, budget, blind or not, and so on."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    deleted_at: Mapped[datetime | None]

    classes: Mapped[list[LabelClass]] = relationship(
        back_populates="dataset", order_by="LabelClass.position", cascade="all, delete-orphan"
    )


class LabelClass(Base):
    """A class of a data set; `position` is its label number, counted from 0."""

    __tablename__ = "class"
    __table_args__ = (UniqueConstraint("dataset_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(500))
    descriptions: Mapped[list[Any]] = mapped_column(default=list)
    """Sentences that describe the class in the words a colleague would use."""

    dataset: Mapped[Dataset] = relationship(back_populates="classes")


class Sample(Base):
    """One image. `file` is absolute for images left where they are, relative to the workspace for copies."""

    __tablename__ = "sample"
    __table_args__ = (
        UniqueConstraint("dataset_id", "position"),
        Index("ix_sample_browse", "dataset_id", "split", "class_id", "position"),
        Index("ix_sample_class", "dataset_id", "class_id", "position"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Place in the data set, counted from 0: the row of its feature in the cache."""
    name: Mapped[str] = mapped_column(String(500))
    file: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    width: Mapped[int]
    height: Mapped[int]
    split: Mapped[str] = mapped_column(String(10), default="train")
    """`train`, `val`, `test`, or `pool` for images without a label."""
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id", ondelete="SET NULL"))
    domain: Mapped[str] = mapped_column(String(100), default="")
    """Site, scanner, stain or style; empty where there is only one."""
    group: Mapped[str] = mapped_column("group_key", String(200), default="")
    """What must not be torn apart by a split: a patient, a slide, a position."""
    mask: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Picture of the same size that marks defects in white, a path like `file`; empty where none is marked."""


class Split(Base):
    """A drawn subset, kept so that everybody trains on the same images."""

    __tablename__ = "split"
    __table_args__ = (UniqueConstraint("dataset_id", "kind", "shots", "seed"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(40), default="few-shot")
    shots: Mapped[int]
    seed: Mapped[int]
    train: Mapped[list[Any]] = mapped_column(default=list)
    """Sample ids, in the order they were drawn."""
    val: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Verdict(enum.StrEnum):
    """What was said of an image. Only `label` counts as a label; only `skip` returns to the queue."""

    LABEL = "label"
    UNSURE = "unsure"
    NOT_GRADABLE = "not_gradable"
    SKIP = "skip"
    FLAG = "flag"
    UNDO = "undo"
    """Takes back the row that it refers to."""
    SUGGESTION = "suggestion"
    """A label from elsewhere that nobody has looked at yet; never counts."""


class Occasion(enum.StrEnum):
    """Why an image was read."""

    READING = "reading"
    """In the queue of a reader, first or second."""
    REPEAT = "repeat"
    """Shown once more, to see whether the reader says the same; never changes the label."""
    REVIEW = "review"
    """Looked up again by the reader: a likely error, a flagged image, a page of similar ones."""
    ADJUDICATION = "adjudication"
    """The last word where readers disagree."""
    IMPORT = "import"
    """Came in a file; anything a reader says beats it."""


class Annotation(Base):
    """One verdict by one reader. Rows are only ever added; `engines.labelling` says which of them count."""

    __tablename__ = "annotation"
    __table_args__ = (
        Index("ix_annotation_reader", "sample_id", "annotator", "id"),
        Index("ix_annotation_event", "event", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str | None] = mapped_column(String(36))
    """Named by the page before it is sent, so that a verdict sent twice is kept once."""
    sample_id: Mapped[int] = mapped_column(ForeignKey("sample.id", ondelete="CASCADE"), index=True)
    class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id", ondelete="CASCADE"))
    verdict: Mapped[Verdict] = mapped_column(
        Enum(Verdict, native_enum=False, length=20, values_callable=lambda e: [v.value for v in e])
    )
    occasion: Mapped[Occasion] = mapped_column(
        Enum(Occasion, native_enum=False, length=20, values_callable=lambda e: [v.value for v in e]),
        default=Occasion.READING,
        server_default=Occasion.READING.value,
    )
    annotator: Mapped[str] = mapped_column(String(100))
    comment: Mapped[str] = mapped_column(Text, default="")
    refers_to: Mapped[int | None]
    """The row that an `undo` takes back; on any other verdict the row that is put back by it (redo)."""
    round_id: Mapped[int | None] = mapped_column(ForeignKey("selection_round.id", ondelete="SET NULL"))
    model: Mapped[str] = mapped_column(String(40), default="")
    """Run whose suggestion was on screen; empty when the reader was blind to it."""
    seconds: Mapped[float | None] = mapped_column(Float)
    """How long the image was on screen."""
    aids: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """What the reader saw beside the image, such as `{"blind": true}` or the suggestions shown."""
    program: Mapped[str] = mapped_column(String(40), default="", server_default="")
    """Version of this program."""
    chain: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """SHA-256 over this row and the one before it in its data set: a row changed by hand breaks the chain."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class SelectionRound(Base):
    """A batch that the active learner asked to have labelled."""

    __tablename__ = "selection_round"
    __table_args__ = (UniqueConstraint("dataset_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    strategy: Mapped[str] = mapped_column(String(40))
    budget: Mapped[int]
    seed: Mapped[int] = mapped_column(default=1)
    run_id: Mapped[str | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"))
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """How it was picked: balanced or not, backbone, method, candidates, and so on."""
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """What the model was worth that picked it: labels it learned from, accuracy, share of answers that changed."""
    picks: Mapped[list[Any]] = mapped_column(default=list)
    """`{"sample": id, "why": sentence, "predicted": class id, "readers": 1 or 2, "repeat": bool}` in the order of
    picking."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class Run(Base):
    """One training (or one evaluation of a method without training), with a folder `runs/<id>/`."""

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_list", "deleted_at", "created_at"),)

    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"), index=True)
    dataset_fingerprint: Mapped[str] = mapped_column(String(64), default="")
    backbone: Mapped[str] = mapped_column(String(300))
    method: Mapped[str] = mapped_column(String(60), index=True)
    protocol: Mapped[str] = mapped_column(String(40), default="few-shot")
    shots: Mapped[int] = mapped_column(default=0)
    """Labelled images per class; 0 = all there are, and for methods that do not train."""
    seed: Mapped[int] = mapped_column(default=1)
    experiment: Mapped[str] = mapped_column(String(12), default="", index=True)
    """Hash of everything but the seed: runs that share it are averaged."""
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The method's settings (its config model, dumped) and `training`: the trainer's."""
    state: Mapped[str] = mapped_column(String(20), default="queued")
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Results as fractions of 1: accuracy, macro_f1, ece, and so on."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    dataset: Mapped[Dataset | None] = relationship()


class Metric(Base):
    """One number of a run at one step."""

    __tablename__ = "metric"
    __table_args__ = (UniqueConstraint("run_id", "name", "step"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(60))
    step: Mapped[int]
    value: Mapped[float] = mapped_column(Float)


class Artifact(Base):
    """A file that a run left in its folder; `path` is relative to the workspace."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("run_id", "path"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    size: Mapped[int] = mapped_column(Integer, default=0)
    """Bytes."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Job(Base):
    """A piece of work for a background worker. This row is the truth about it."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_queue", "state", "priority", "created_at"),)

    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(40))
    title: Mapped[str] = mapped_column(String(300), default="")
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[JobState] = mapped_column(
        Enum(JobState, native_enum=False, length=20, values_callable=lambda e: [v.value for v in e]),
        default=JobState.QUEUED,
    )
    priority: Mapped[int] = mapped_column(default=0)
    """Higher runs first."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    attempt: Mapped[int] = mapped_column(default=0)
    """How often a worker has begun it."""
    progress: Mapped[float] = mapped_column(default=0.0)
    """Fraction done, 0 to 1."""
    message: Mapped[str] = mapped_column(Text, default="")
    rate: Mapped[str] = mapped_column(String(60), default="")
    """Speed in words, such as `310 images/s`."""
    seconds_left: Mapped[float | None]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(Text, default="")
    """What happened and what to do, in words."""
    detail: Mapped[str] = mapped_column(Text, default="")
    """Technical detail such as a traceback."""
    worker: Mapped[str] = mapped_column(String(200), default="")
    run_id: Mapped[str | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


def _refuse_change(mapper: Mapper[Any], connection: Connection, target: Annotation) -> None:
    raise RuntimeError("annotations are only ever added, never changed or removed")


event.listen(Annotation, "before_update", _refuse_change)
event.listen(Annotation, "before_delete", _refuse_change)
