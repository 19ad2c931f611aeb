"""Likely label errors: planted ones are found, few are named where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import DataError
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.runs import hints
from engines.store import Annotation, Dataset, LabelClass, Sample, Verdict, Workspace


def blobs(per_class: list[int], seed: int, dim: int = 24, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, dim] in one cloud a class, and labels [N]."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dim, dim)))[0][: len(per_class)]
    labels = np.repeat(np.arange(len(per_class)), per_class)
    return (centres[labels] + noise * rng.normal(size=(len(labels), dim)) / dim**0.5).astype(np.float32), labels


def found(features: np.ndarray, labels: np.ndarray, groups: list[str] | None = None) -> list[tuple[int, int]]:
    shares, _ = hints.out_of_sample(features, labels, groups or [""] * len(labels))
    return hints.likely_errors(labels, shares)


class TestFinding:
    @pytest.mark.parametrize("per_class", [[40, 40], [60, 40, 30], [20, 20, 20, 20, 100]])
    def test_planted_errors_are_found(self, per_class: list[int]) -> None:
        hits = named = wrong = 0
        for seed in range(6):
            features, truth = blobs(per_class, seed)
            rng = np.random.default_rng(seed + 50)
            planted = rng.choice(len(truth), len(truth) // 20, replace=False)
            labels = truth.copy()
            labels[planted] = (truth[planted] + 1 + rng.integers(0, len(per_class) - 1, len(planted))) % len(per_class)
            errors = found(features, labels)
            assert all(suggested == truth[row] for row, suggested in errors if row in planted)
            hits += len({row for row, _ in errors} & set(planted.tolist()))
            named += len(errors)
            wrong += len(planted)
        assert hits / wrong >= 0.95
        assert hits / named >= 0.95

    @pytest.mark.parametrize("seed", range(4))
    def test_few_are_named_where_nothing_is_wrong(self, seed: int) -> None:
        features, labels = blobs([40, 30, 20], seed)
        assert len(found(features, labels)) <= 2

    def test_worst_first(self) -> None:
        features, truth = blobs([40, 40], 0, noise=0.3)
        labels = truth.copy()
        labels[[0, 45]] = 1 - truth[[0, 45]]
        features[45] = 0.5 * features[45] + 0.5 * features[0]  # between both: less surely wrong
        assert [row for row, _ in found(features, labels)][:1] == [0]

    @given(st.lists(st.integers(5, 9), min_size=2, max_size=5), st.integers(0, 99), st.booleans())
    @settings(deadline=None, max_examples=25)
    def test_probabilities_are_probabilities(self, per_class: list[int], seed: int, grouped: bool) -> None:
        features, labels = blobs(per_class, seed, noise=2)
        groups = [f"patient {number // 2}" if grouped else "" for number in range(len(labels))]
        shares, _ = hints.out_of_sample(features, labels, groups)
        assert shares.shape == (len(labels), len(per_class))
        assert np.allclose(shares.sum(1), 1)
        assert (shares > 0).all()

    def test_nobody_is_judged_by_a_model_that_saw_the_patient(self) -> None:
        """Every patient has a colour of its own: seen before, it gives the label away; unseen, it says nothing."""
        rng = np.random.default_rng(3)
        patients = np.eye(30, dtype=np.float32)
        of = np.repeat(np.arange(30), 4)
        labels = of % 2
        features = patients[of] + 0.01 * rng.normal(size=(120, 30)).astype(np.float32)
        apart, notes = hints.out_of_sample(features, labels, [f"p{number}" for number in of])
        together, _ = hints.out_of_sample(features, labels, [""] * 120)
        assert notes == []
        assert (together.argmax(1) == labels).mean() > 0.95
        assert (apart.argmax(1) == labels).mean() < 0.7

    def test_too_few_patients_are_told(self) -> None:
        features, labels = blobs([10, 10], 1)
        _, notes = hints.out_of_sample(features, labels, ["a", "b"] * 10)
        assert "few groups" in notes[0]


@pytest.fixture
def wrong(ws: Workspace, dataset_id: int) -> list[int]:
    """Two red images that a reader called blue."""
    with ws.session() as session:
        red, blue = (session.query(LabelClass).filter_by(name=name).one().id for name in ("red thing", "blue thing"))
        chosen = [sample.id for sample in session.query(Sample).filter_by(class_id=red).order_by(Sample.id).limit(2)]
        said = {row.sample_id for row in session.query(Annotation)}
        for sample in set(chosen) - said:
            session.add(Annotation(sample_id=sample, class_id=blue, verdict=Verdict.LABEL, annotator="Anna"))
    return chosen


class TestHints:
    def test_in_a_data_set(self, ws: Workspace, dataset_id: int, wrong: list[int]) -> None:
        kind = find_kind("label_hints")
        assert kind.lane == "waited-for"
        result = kind.run(JobContext(ws), kind.parse({"dataset_id": dataset_id}))
        named = {hint["sample"]: hint for hint in result["hints"]}
        assert set(wrong) <= set(named)
        assert len(named) <= 4
        with ws.session() as session:
            name = {each.id: each.name for each in session.query(LabelClass)}
        for sample in wrong:
            assert name[named[sample]["given"]] == "blue thing"
            assert name[named[sample]["suggested"]] == "red thing"
            assert 0.3 < named[sample]["confidence"] <= 1
        assert result["checked"] == 56
        assert result["accuracy"] > 0.9
        assert (result["left_out"], result["notes"]) == ([], [])

    def test_small_classes_are_left_out_and_named(self, ws: Workspace, dataset_id: int, wrong: list[int]) -> None:
        with ws.session() as session:
            grey = session.query(LabelClass).filter_by(name="grey thing").one().id
            session.query(Sample).filter_by(class_id=grey).filter(Sample.split == "train").update({"class_id": None})
            tested = session.query(Sample).filter_by(class_id=grey).order_by(Sample.id).all()
            for sample in tested[4:]:
                sample.class_id = None
        result = hints.label_hints(ws, dataset_id, "mini-clip")
        assert result["left_out"] == [{"class": grey, "name": "grey thing", "images": 4}]
        assert "“grey thing” 4" in result["notes"][0]
        assert result["checked"] == 42
        assert grey not in {hint[key] for hint in result["hints"] for key in ("given", "suggested")}

    def test_too_few_labels_are_refused(self, ws: Workspace, dataset_id: int) -> None:
        with ws.session() as session:
            blue = session.query(LabelClass).filter_by(name="blue thing").one().id
            session.query(Sample).filter(Sample.class_id != blue).update({"class_id": None})
        with pytest.raises(DataError, match=r"Fewer than two classes.*“blue thing” \d+"):
            hints.label_hints(ws, dataset_id, "mini-clip")

    def test_no_labels_and_no_data_set(self, ws: Workspace) -> None:
        with ws.session() as session:
            session.add(Dataset(id=77, name="empty", reader="folder"))
        with pytest.raises(DataError, match="Fewer than two classes"):
            hints.label_hints(ws, 77, "mini-clip")
        with pytest.raises(DataError, match="no longer exists"):
            hints.label_hints(ws, 78, "mini-clip")
