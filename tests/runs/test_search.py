"""Images found by an image or by words: exact, only among those that were looked at, told what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.backbones import FeatureCache, load_backbone
from engines.data import ImportRequest, import_dataset, load_image
from engines.errors import ConfigError, DataError
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.runs import search
from engines.runs.material import all_items
from engines.runs.views import Features
from engines.store import Annotation, Dataset, LabelClass, Sample, Verdict, Workspace
from tests.runs.conftest import write_shapes

MODEL = "mini-clip"


@pytest.fixture(scope="module")
def seen(ws: Workspace, dataset_id: int) -> dict[int, np.ndarray]:
    """Unit features by sample id, all in the cache."""
    items = all_items(ws, dataset_id)
    features = Features(ws, load_backbone(MODEL), dataset_id).get(items, lambda *a: None, lambda: None)
    rows = torch.nn.functional.normalize(features, dim=1).numpy()
    return {item.sample_id: row for item, row in zip(items, rows, strict=True)}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[Workspace, int, list[int]]]:
    """A data set of its own whose features nobody has computed: workspace, data set, sample ids."""
    workspace = Workspace.open(tmp_path / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(tmp_path / "shapes", 3, 1))))
    with workspace.session() as session:
        yield (
            workspace,
            session.query(Dataset).one().id,
            [s.id for s in session.query(Sample).order_by(Sample.position)],
        )
    workspace.close()


def fill(workspace: Workspace, dataset_id: int, ids: list[int], rows: np.ndarray) -> None:
    model = load_backbone(MODEL)
    folder = workspace.folder("features") / str(dataset_id)
    FeatureCache(folder, model.name, model.fingerprint, "centre", model.embed_dim).write(ids, rows.astype(np.float32))


def ids_of(found: dict[str, Any]) -> list[int]:
    return [hit["sample"] for hit in found["hits"]]


class TestSimilar:
    def test_order_is_that_of_plain_cosine(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]) -> None:
        asked, others = next(iter(seen)), list(seen)[1:]
        plain = {other: float(seen[other] @ seen[asked]) for other in others}
        found = search.similar_images(ws, dataset_id, MODEL, asked, limit=10)
        assert ids_of(found) == sorted(others, key=lambda other: -plain[other])[:10]
        assert [hit["score"] for hit in found["hits"]] == pytest.approx([plain[i] for i in ids_of(found)], abs=1e-5)
        assert (found["missing"], found["searched"]) == (0, len(others))

    @pytest.mark.parametrize("slice_size", [1, 7, 55, 4096])
    def test_slices_change_nothing(
        self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray], slice_size: int, monkeypatch: Any
    ) -> None:
        asked = list(seen)[20]
        whole = search.similar_images(ws, dataset_id, MODEL, asked, limit=30)
        monkeypatch.setattr(search, "_SLICE", slice_size)
        assert ids_of(search.similar_images(ws, dataset_id, MODEL, asked, limit=30)) == ids_of(whole)

    def test_never_the_image_itself(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]) -> None:
        for asked in list(seen)[::9]:
            found = ids_of(search.similar_images(ws, dataset_id, MODEL, asked, limit=1000))
            assert asked not in found
            assert len(found) == len(seen) - 1

    def test_near_duplicates_are_marked(self, fresh: tuple[Workspace, int, list[int]]) -> None:
        workspace, dataset_id, ids = fresh
        rows = np.random.default_rng(0).normal(size=(len(ids), load_backbone(MODEL).embed_dim))
        rows[1] = 3 * rows[0]  # the same direction
        fill(workspace, dataset_id, ids, rows)
        first, *others = search.similar_images(workspace, dataset_id, MODEL, ids[0])["hits"]
        assert first == {"sample": ids[1], "score": pytest.approx(1), "near_duplicate": True}
        assert not any(hit["near_duplicate"] for hit in others)

    def test_equal_scores_stay_in_order(self, fresh: tuple[Workspace, int, list[int]]) -> None:
        workspace, dataset_id, ids = fresh
        fill(workspace, dataset_id, ids, np.ones((len(ids), load_backbone(MODEL).embed_dim)))
        assert ids_of(search.similar_images(workspace, dataset_id, MODEL, ids[5])) == ids[:5] + ids[6:]

    def test_what_was_not_looked_at_is_counted(self, fresh: tuple[Workspace, int, list[int]]) -> None:
        workspace, dataset_id, ids = fresh
        nothing = search.similar_images(workspace, dataset_id, MODEL, ids[0])
        assert nothing == {"hits": [], "searched": 0, "missing": len(ids) - 1}
        model = load_backbone(MODEL)
        file = {item.sample_id: item.file for item in all_items(workspace, dataset_id)}[ids[0]]
        own = model.encode_image(model.preprocess(load_image(file))[None]).numpy()
        rows = np.random.default_rng(1).normal(size=(3, model.embed_dim))
        rows[2] = own[0]
        fill(workspace, dataset_id, ids[1:4], rows)
        found = search.similar_images(workspace, dataset_id, MODEL, ids[0])  # itself it is looked at on the spot
        assert ids_of(found)[0] == ids[3]
        assert (found["searched"], found["missing"]) == (3, len(ids) - 4)

    def test_rows_that_are_no_numbers_are_not_found(self, fresh: tuple[Workspace, int, list[int]]) -> None:
        workspace, dataset_id, ids = fresh
        rows = np.random.default_rng(2).normal(size=(len(ids), load_backbone(MODEL).embed_dim))
        rows[3, 0], rows[4], rows[5, 1] = np.nan, 0, np.inf
        fill(workspace, dataset_id, ids, rows)
        found = search.similar_images(workspace, dataset_id, MODEL, ids[0])
        assert not {ids[3], ids[5]} & set(ids_of(found))
        assert found["missing"] == 2
        assert all(np.isfinite(hit["score"]) for hit in found["hits"])

    def test_among_unlabelled_images(self, fresh: tuple[Workspace, int, list[int]]) -> None:
        workspace, dataset_id, ids = fresh
        with workspace.session() as session:
            for sample in session.query(Sample).filter(Sample.id.in_(ids[:6])):
                sample.class_id = None
            session.flush()
            label = session.query(LabelClass).first()
            assert label
            session.add(Annotation(sample_id=ids[1], class_id=label.id, verdict=Verdict.LABEL, annotator="A"))
        fill(workspace, dataset_id, ids, np.ones((len(ids), load_backbone(MODEL).embed_dim)))
        found = search.similar_images(workspace, dataset_id, MODEL, ids[0], unlabelled=True)
        assert set(ids_of(found)) == set(ids[2:6])

    @pytest.mark.parametrize("limit", [0, -1, 1001, 10**9])
    def test_limits(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray], limit: int) -> None:
        with pytest.raises(ConfigError, match="Ask for 1 to"):
            search.similar_images(ws, dataset_id, MODEL, next(iter(seen)), limit=limit)

    def test_gone(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]) -> None:
        with pytest.raises(DataError, match="not in the data set"):
            search.similar_images(ws, dataset_id, MODEL, 10**6)
        with pytest.raises(DataError, match="no longer exists"):
            search.similar_images(ws, 99, MODEL, next(iter(seen)))


class TestWords:
    def test_a_class_is_found_by_its_name(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]) -> None:
        with ws.session() as session:
            red = session.query(LabelClass).filter_by(name="red thing").one().id
            reds = {sample.id for sample in session.query(Sample).filter_by(class_id=red)}
        found = search.search_text(ws, dataset_id, MODEL, "  RED Thing ", limit=10)
        assert len(found["sentences"]) == 7
        assert len(reds & set(ids_of(found))) >= 9

    def test_plain_words_are_taken_as_they_stand(
        self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]
    ) -> None:
        text = "a red circle on a light ground"
        found = search.search_text(ws, dataset_id, MODEL, text, limit=56)
        assert found["sentences"] == [text]
        query = torch.nn.functional.normalize(load_backbone(MODEL).encode_text([text]), dim=1)[0].numpy()
        assert ids_of(found) == sorted(seen, key=lambda sample: -float(seen[sample] @ query))

    @pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\u202e\u200f"])
    def test_nothing_to_search_for(self, ws: Workspace, dataset_id: int, text: str) -> None:
        with pytest.raises(ConfigError, match="nothing to search for"):
            search.search_text(ws, dataset_id, MODEL, text)

    @pytest.mark.parametrize("text", ["word " * 2000, "x" * 10_000, "😀" * 10_000, "a" * 5_000_000])
    def test_too_long(self, ws: Workspace, dataset_id: int, text: str) -> None:
        with pytest.raises(ConfigError, match="too long for this model"):
            search.search_text(ws, dataset_id, MODEL, text)

    @pytest.mark.parametrize("text", ["😀", "赤い丸", "=1+1", "{}", "<b>", "a%s", "عين", "👩🏽‍⚕️", "\ud800 red"])
    def test_odd_texts_work(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray], text: str) -> None:
        found = search.search_text(ws, dataset_id, MODEL, text, limit=3)
        assert len(found["hits"]) == 3


class TestKinds:
    def test_in_the_lane_that_never_waits(self, ws: Workspace, dataset_id: int, seen: dict[int, np.ndarray]) -> None:
        for name, more in (("similar", {"sample_id": next(iter(seen))}), ("text_search", {"text": "red"})):
            kind = find_kind(name)
            assert kind.lane == "interactive"
            found = kind.run(JobContext(ws), kind.parse({"dataset_id": dataset_id, "limit": 4, **more}))
            assert len(found["hits"]) == 4
            assert found["missing"] == 0
