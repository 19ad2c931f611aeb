"""Slides: made small here, as pyramids of tiles; what comes in, what stays out, and what is said of it."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.data import ImportOptions, ImportReport, ImportRequest, import_dataset, load_image, slides
from engines.data.slide_tiles import drawn
from engines.data.slides import NEEDS_PACKAGE, Slide, is_slide, tissue
from engines.errors import Cancelled, DataError
from engines.store import Dataset, Sample, Workspace

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("openslide")

BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]
GLASS = 243
PINK = (190, 100, 170)
LABEL = (250, 0, 0)


def scanned(
    width: int = 2048, height: int = 1536, seed: int = 0, where: tuple[slice, slice] | None = None
) -> np.ndarray:
    """Pixels [H, W, 3] of glass with a piece of noisy pink tissue on it."""
    pixels = np.full((height, width, 3), GLASS, np.uint8)
    rows, columns = where or (slice(0, height // 2), slice(0, width // 2))
    shape = pixels[rows, columns].shape
    noise = np.random.default_rng(seed).integers(-20, 20, shape)
    pixels[rows, columns] = np.clip(np.array(PINK) + noise, 0, 255)
    return pixels


def write_pyramid(
    path: Path, pixels: np.ndarray, levels: tuple[int, ...] = (4,), mpp: float | None = 0.5, **more: Any
) -> Path:
    """A tiled TIFF of `pixels` and of smaller copies of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate", "metadata": None} | more
    if mpp:
        how |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, **how)
        for factor in levels:
            file.write(np.ascontiguousarray(pixels[::factor, ::factor]), subfiletype=1, **how)
    return path


def write_svs(path: Path, pixels: np.ndarray) -> Path:
    """A slide as Aperio's scanners write them, with a red photograph of its label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape[:2]
    about = f"Aperio Image Library v11.2.1\r\n{width}x{height} (256x256)|AppMag = 20|MPP = 0.4990|Title = Meier Erika"
    how: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    label = np.full((60, 60, 3), LABEL, np.uint8)
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(256, 256), description=about, **how)
        file.write(np.ascontiguousarray(pixels[::8, ::8]), description="Aperio thumbnail", **how)
        file.write(np.ascontiguousarray(pixels[::4, ::4]), tile=(256, 256), description="Aperio level", **how)
        file.write(label, description="Aperio\r\nlabel 60x60", subfiletype=1, **how)
        file.write(label, description="Aperio\r\nmacro 60x60", subfiletype=9, **how)
    return path


def pixels_of(workspace: Workspace, sample: Sample) -> np.ndarray:
    return np.asarray(load_image(workspace.resolve(sample.file)))


class TestTiles:
    def test_names_groups_labels_and_pixels(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        tumour, normal = scanned(seed=1), scanned(seed=2)
        write_pyramid(tmp_path / "lung/tumour/a.tif", tumour)
        write_pyramid(tmp_path / "lung/normal/b.tif", normal)
        report = bring_in(tmp_path / "lung", slides="tiles", tile_size=256, split="as-is")
        # 1024 x 768 pixels of tissue: 4 x 3 tiles each.
        assert report.counts == {"normal": {"train": 12}, "tumour": {"train": 12}}
        found = samples(report.dataset_id)
        assert {s.group for s in found} == {"tumour/a.tif", "normal/b.tif"}
        by_name = {s.name: s for s in found}
        assert (by_name["tumour/a_x256_y512.png"].width, by_name["tumour/a_x256_y512.png"].height) == (256, 256)
        assert np.array_equal(pixels_of(workspace, by_name["tumour/a_x256_y512.png"]), tumour[512:768, 256:512])
        assert np.array_equal(pixels_of(workspace, by_name["normal/b_x0_y0.png"]), normal[:256, :256])
        assert any("Slides: 2, cut into 24 tiles" in warning for warning in report.warnings)

    def test_tiles_of_a_slide_are_never_torn_apart(self, tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
        for number in range(12):
            place = tmp_path / f"lung/{('tumour', 'normal')[number % 2]}/{number}.tif"
            write_pyramid(place, scanned(512, 512, seed=number), levels=(2,))
        report = bring_in(tmp_path / "lung", slides="tiles", tile_size=64)
        splits: dict[str, set[str]] = {}
        for sample in samples(report.dataset_id):
            splits.setdefault(sample.group, set()).add(sample.split)
        assert len(splits) == 12
        assert all(len(each) == 1 for each in splits.values())
        assert {split for each in splits.values() for split in each} == {"train", "val", "test"}

    def test_one_slide_a_class_leaves_nothing_to_test_on_and_it_is_said(
        self, tmp_path: Path, bring_in: BringIn
    ) -> None:
        for number, folder in enumerate(("tumour", "normal")):
            write_pyramid(tmp_path / f"lung/{folder}/{number}.tif", scanned(512, 512, seed=number), levels=(2,))
        report = bring_in(tmp_path / "lung", slides="tiles", tile_size=64)
        assert report.counts == {"normal": {"train": 16}, "tumour": {"train": 16}}
        assert "No images could be set aside for testing" in report.warnings[0]

    def test_a_patient_named_in_a_table_holds_more_than_the_slide(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples
    ) -> None:
        for name in "ab":
            write_pyramid(tmp_path / f"{name}.tif", scanned(512, 512, seed=ord(name)), levels=(2,))
        (tmp_path / "slides.csv").write_text("file,label,patient\na.tif,x,P1\nb.tif,y,P1\n")
        report = bring_in(tmp_path / "slides.csv", slides="tiles", tile_size=128, group_column="patient", split="as-is")
        assert {s.group for s in samples(report.dataset_id)} == {"P1"}
        assert report.counts == {"x": {"train": 4}, "y": {"train": 4}}

    def test_background_is_left_out_only_where_asked(self, tmp_path: Path, bring_in: BringIn) -> None:
        pixels = scanned(1024, 1024, where=(slice(0, 1024), slice(0, 320)))
        pixels[:, 960:] = 0  # what a scanner did not cover
        write_pyramid(tmp_path / "a/a.tif", pixels)

        def count(share: int) -> int:
            how = {"slides": "tiles", "tile_size": 256, "tile_tissue": share, "keep_duplicates": True}
            return bring_in(tmp_path / "a", **how).imported

        # The first column is full of tissue, the second holds a quarter (64 of 256 pixels).
        assert (count(0), count(25), count(30), count(100)) == (16, 8, 4, 4)

    def test_grey_slides_have_tissue_too(self) -> None:
        grey = np.array([[[243] * 3, [150] * 3, [3] * 3, [200, 150, 190]]], np.uint8)
        assert tissue(grey).tolist() == [[False, True, False, True]]

    def test_level_and_resolution(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        pixels = scanned()
        write_pyramid(tmp_path / "a/a.tif", pixels, levels=(4,), mpp=0.5)
        how = {"slides": "tiles", "tile_size": 192, "tile_tissue": 50}
        (level,) = samples(bring_in(tmp_path / "a", name="1", tile_level=1, **how).dataset_id)
        assert np.array_equal(pixels_of(workspace, level), pixels[::4, ::4][:192, :192])
        # 2 micrometres per pixel is the same level; 1 lies between the levels and is made from the finer one.
        (same,) = samples(bring_in(tmp_path / "a", name="2", tile_mpp=2.0, **how).dataset_id)
        assert np.array_equal(pixels_of(workspace, same), pixels_of(workspace, level))
        between = samples(bring_in(tmp_path / "a", name="3", tile_mpp=1.0, **how).dataset_id)
        halves = pixels.reshape(768, 2, 1024, 2, 3).astype(float).mean(axis=(1, 3))
        chosen = next(s for s in between if s.name == "a_x384_y0.png")
        assert np.abs(pixels_of(workspace, chosen) - halves[:192, 192:384]).max() <= 1

    def test_what_a_slide_does_not_offer(self, tmp_path: Path, bring_in: BringIn) -> None:
        write_pyramid(tmp_path / "a/a.tif", scanned(), mpp=0.5)
        write_pyramid(tmp_path / "b/b.tif", scanned(), mpp=None)
        for folder, options, reason in (
            ("a", {"tile_mpp": 0.2}, "scanned more coarsely"),
            ("a", {"tile_level": 2}, "fewer levels"),
            ("b", {"tile_mpp": 1.0}, "how large its pixels are"),
        ):
            with pytest.raises(DataError, match=reason):
                bring_in(tmp_path / folder, slides="tiles", **options)
        with pytest.raises(DataError, match="not both"):
            bring_in(tmp_path / "a", slides="tiles", tile_mpp=1.0, tile_level=1)

    def test_at_most_so_many_and_it_is_said(self, tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
        write_pyramid(tmp_path / "a/a.tif", scanned(1024, 1024))
        reports = [
            bring_in(tmp_path / "a", name=name, slides="tiles", tile_size=64, tiles_per_slide=10) for name in "12"
        ]
        first, second = ([s.name for s in samples(report.dataset_id)] for report in reports)
        assert len(first) == 10
        assert first == second  # alike at every import
        told = " ".join(reports[0].warnings)
        assert "Slides with more than 10 tiles, of which so many were drawn at random: 1 (“a.tif” 64)" in told

    def test_a_draw_covers_all_of_the_slide(self) -> None:
        found = drawn(list(range(10_000)), 500)
        assert found == sorted(set(found))
        assert np.histogram(found, bins=5, range=(0, 10_000))[0].min() > 60

    def test_a_slide_smaller_than_a_tile_is_one_tile(self, tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
        write_pyramid(tmp_path / "a/a.tif", scanned(300, 200, where=(slice(0, 200), slice(0, 300))), levels=(2,))
        (sample,) = samples(bring_in(tmp_path / "a", slides="tiles").dataset_id)
        assert (sample.width, sample.height) == (300, 200)

    def test_a_slide_without_tissue_is_named(self, tmp_path: Path, bring_in: BringIn) -> None:
        write_pyramid(tmp_path / "s/a/full.tif", scanned())
        write_pyramid(tmp_path / "s/a/glass.tif", scanned(where=(slice(0, 9), slice(0, 9))))
        report = bring_in(tmp_path / "s", slides="tiles")
        assert [(one.file, one.reason) for one in report.left_out] == [
            ("a/glass.tif", "a slide without a tile that shows enough tissue")
        ]

    def test_a_damaged_tile_costs_that_tile_only(self, tmp_path: Path, bring_in: BringIn) -> None:
        place = write_pyramid(tmp_path / "a/a.tif", scanned(1024, 1024))
        with tifffile.TiffFile(place) as file:
            start, length = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
        data = bytearray(place.read_bytes())
        data[start : start + length] = b"\xff" * length
        place.write_bytes(data)
        report = bring_in(tmp_path / "a", slides="tiles", tile_size=256)
        assert report.imported == 3
        assert [(one.file, one.reason) for one in report.left_out] == [("a_x256_y0.png", "a damaged tile of a slide")]

    def test_memory_stays_small(self, tmp_path: Path) -> None:
        """A slide of 315 MB once decoded, in a process of its own, of which the system tells the largest size."""
        place = write_pyramid(tmp_path / "a.tif", np.full((10_240, 10_240, 3), 150, np.uint8), levels=(8,))
        script = """
import resource, sys
from pathlib import Path
from engines.data import ImportOptions, Reading, Record
from engines.data.slide_tiles import Slides
from engines.data.slides import Slide
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
place = Path(sys.argv[1])
with Slide(place) as slide:
    slide.region(0, 0, 1, 64, 64)
before = peak()
options = ImportOptions(slides="tiles", tiles_per_slide=40)
print(sum(isinstance(one, Record) for one in Slides(Reading([Record("a.tif", place)], 1), options, int).records()))
with Slide(place) as slide:
    slide.downsamples = (1.0,)  # as where there are no smaller levels
    slide.thumbnail()
print(peak() - before)
"""
        run = subprocess.run([sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=True)
        tiles, kilobytes = map(int, run.stdout.split())
        assert tiles == 40
        assert kilobytes < 120_000


class TestThumbnails:
    def test_the_whole_slide_as_one_picture(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        pixels = scanned(5000, 3000)
        write_pyramid(tmp_path / "s/tumour/a.tif", pixels, levels=(4, 16))
        report = bring_in(tmp_path / "s", split="as-is")
        (sample,) = samples(report.dataset_id)
        assert (sample.name, sample.width, sample.height) == ("tumour/a.tif", 2048, 1228)
        found = pixels_of(workspace, sample).astype(int)
        assert np.abs(found[100:500, 100:900].mean(axis=(0, 1)) - PINK).max() < 3
        assert np.abs(found[-50:, -50:] - GLASS).max() <= 1
        assert any("each imported as one small picture" in warning for warning in report.warnings)

    def test_without_smaller_levels(self, tmp_path: Path) -> None:
        pixels = scanned(6000, 1000)
        write_pyramid(tmp_path / "a.tif", pixels, levels=())
        with Slide(tmp_path / "a.tif") as slide:
            assert slide.downsamples == (1.0,)
            small = np.asarray(slide.thumbnail(500)).astype(int)
        exact = Image.fromarray(pixels).resize((500, 83), Image.Resampling.BOX, box=(0, 0, 6000, 996))
        assert small.shape == (83, 500, 3)
        assert np.abs(small - np.asarray(exact).astype(int))[:, 10:-10].mean() < 2

    def test_small_slides_are_not_enlarged(self, tmp_path: Path) -> None:
        pixels = scanned(400, 300)
        with Slide(write_pyramid(tmp_path / "a.tif", pixels)) as slide:
            assert np.array_equal(np.asarray(slide.thumbnail()), pixels)


class TestWhatIsASlide:
    def test_ordinary_tiffs_are_read_as_before(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        tifffile.imwrite(tmp_path / "plain.tif", scanned(300, 200), photometric="rgb")
        tifffile.imwrite(tmp_path / "tiled.tif", scanned(300, 200, seed=1), tile=(64, 64), photometric="rgb")
        deep = np.arange(60_000, dtype=np.uint16).reshape(200, 300)
        tifffile.imwrite(tmp_path / "deep.tif", deep, tile=(64, 64))
        assert not any(is_slide(tmp_path / name, 10**8) for name in ("plain.tif", "tiled.tif", "deep.tif"))
        report = bring_in(tmp_path, slides="tiles", tile_size=64)
        assert report.imported == 3
        assert {s.file for s in samples(report.dataset_id)} == {
            str(tmp_path / f"{n}.tif") for n in ("plain", "tiled", "deep")
        }

    def test_a_deep_pyramid_keeps_its_depth(self, tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
        deep = np.arange(60_000, dtype=np.uint16).reshape(200, 300)
        write_pyramid(tmp_path / "deep.tif", deep, levels=(2,), photometric="minisblack", tile=(64, 64))
        assert not is_slide(tmp_path / "deep.tif", 10**8)
        assert is_slide(tmp_path / "deep.tif", 10_000)
        (sample,) = samples(bring_in(tmp_path).dataset_id)
        assert sample.file == str(tmp_path / "deep.tif")

    def test_a_tiled_tiff_that_is_too_large_for_an_image_is_a_slide(self, tmp_path: Path) -> None:
        write_pyramid(tmp_path / "a.tif", scanned(2000, 600), levels=())
        assert is_slide(tmp_path / "a.tif", 10**6)
        assert not is_slide(tmp_path / "a.tif", 10**7)

    def test_a_single_file(self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace) -> None:
        pixels = scanned(seed=9)
        write_svs(tmp_path / "case 7.svs", pixels)
        report = bring_in(tmp_path / "case 7.svs", slides="tiles", tile_size=512)
        assert (report.name, report.reader, report.counts) == ("case 7", "slide", {"(no label)": {"pool": 4}})
        named = {s.name: s for s in samples(report.dataset_id)}
        assert np.array_equal(pixels_of(workspace, named["case 7_x512_y0.png"]), pixels[:512, 512:1024])
        Image.fromarray(scanned(50, 40)).save(tmp_path / "photo.tif")
        assert bring_in(tmp_path / "photo.tif").imported == 1

    def test_label_and_notes_of_the_scanner_stay_out(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        write_svs(tmp_path / "s/a.svs", scanned(seed=9))
        for name, options in (("tiles", {"slides": "tiles", "tile_tissue": 0}), ("small", {})):
            report = bring_in(tmp_path / "s", name=name, **options)
            for sample in samples(report.dataset_id):
                assert not np.any(np.all(pixels_of(workspace, sample) == LABEL, axis=-1))
        with workspace.session() as session:
            assert "Meier" not in str([each.report for each in session.query(Dataset)])
        workspace.close()
        for file in filter(Path.is_file, workspace.path.rglob("*")):
            assert b"Meier" not in file.read_bytes()

    def test_folders_of_a_mirax_slide_are_a_part_of_it(self, tmp_path: Path, bring_in: BringIn) -> None:
        write_pyramid(tmp_path / "s/a/b.tif", scanned())
        (tmp_path / "s/a/m.mrxs").write_bytes(b"not really")
        (tmp_path / "s/a/m").mkdir()
        (tmp_path / "s/a/m/Data0000.dat").write_bytes(b"x")
        report = bring_in(tmp_path / "s")
        assert [one.file for one in report.left_out] == ["a/m.mrxs"]


def declared(width: int, height: int) -> bytes:
    """A tiled TIFF with one page that says it is so large, and has nothing behind it."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), (322, 4, 256)]
    tags += [(323, 4, 256), (324, 4, 0), (325, 4, 0)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + body + struct.pack("<I", 0)


def svs_bytes() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, scanned(700, 700), tile=(256, 256), photometric="rgb", description="Aperio Image")
    return stream.getvalue()


BAD = {
    "nothing.svs": b"",
    "nothing.ndpi": b"",
    "nothing.mrxs": b"",
    "nothing.tif": b"",
    "text.svs": b"hello, I am no slide",
    "text.scn": b"<xml>",
    "text.czi": b"ZISRAWFILE",
    "text.bif": b"\0" * 5000,
    "png.svs": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "header.svs": b"II*\0",
    "header.tif": b"II*\0\x08\0\0\0",
    "offset.svs": b"II*\0\xff\xff\xff\x7f",
    "loop.svs": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "wide.tif": declared(100_000, 50),
    "wide.svs": declared(100_000, 100_000),
    "endless.tif": declared(2**31 - 1, 2**31 - 1),
    "endless.svs": declared(2**32 - 1, 2**32 - 1),
    "empty size.tif": declared(0, 0),
    "bigtiff.svs": b"II+\0\x08\0\0\0" + b"\xff" * 40,
    "half.svs": svs_bytes()[:-600],
    "quarter.svs": svs_bytes()[:5000],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("mode", ["thumbnail", "tiles"])
def test_bad_slides_are_left_out_with_a_reason(
    name: str, mode: str, tmp_path: Path, bring_in: BringIn, picture: Callable[..., bytes]
) -> None:
    (tmp_path / "s/a").mkdir(parents=True)
    (tmp_path / "s/a/good.png").write_bytes(picture(1))
    (tmp_path / f"s/a/{name}").write_bytes(BAD[name])
    report = bring_in(tmp_path / "s", slides=mode)
    assert report.imported == 1
    assert [one.file for one in report.left_out] == [f"a/{name}"]
    assert len(report.left_out[0].reason) > 5
    with pytest.raises(DataError):
        bring_in(tmp_path / f"s/a/{name}", slides=mode, name="alone")


@pytest.mark.parametrize(
    "options",
    [
        {"tile_size": 0},
        {"tile_size": -5},
        {"tile_size": 10**9},
        {"tile_size": 3.5},
        {"tile_level": -1},
        {"tile_level": 99},
        {"tile_mpp": -1},
        {"tile_mpp": float("nan")},
        {"tile_mpp": float("inf")},
        {"tile_tissue": 101},
        {"tile_tissue": -1},
        {"tiles_per_slide": 0},
        {"tiles_per_slide": 10**9},
        {"slides": "whole"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ImportOptions.model_validate(options)


class TestFaults:
    def test_a_folder_or_pipe_that_is_called_like_a_slide(self, tmp_path: Path, bring_in: BringIn) -> None:
        write_pyramid(tmp_path / "good.tif", scanned())
        (tmp_path / "folder.svs").mkdir()
        os.mkfifo(tmp_path / "pipe.svs")
        (tmp_path / "table.csv").write_text("file,label\ngood.tif,x\nfolder.svs,x\npipe.svs,x\nmissing.svs,x\n")
        report = bring_in(tmp_path / "table.csv")
        assert report.imported == 1
        assert report.reasons == {"not a file": 2, "the file does not exist": 1}

    def test_slides_in_archives(self, tmp_path: Path, bring_in: BringIn, picture: Callable[..., bytes]) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr("a/one.png", picture(1))
            archive.writestr("a/two.svs", svs_bytes())
        report = bring_in(tmp_path / "s.zip", slides="tiles")
        assert [one.reason for one in report.left_out] == [
            "a slide inside an archive or table: unpack it, then import the folder"
        ]

    def test_too_many_tiles(self, tmp_path: Path, bring_in: BringIn) -> None:
        (tmp_path / "a.tif").write_bytes(declared(200_000, 200_000))
        with pytest.raises(DataError, match="too many tiles"):
            bring_in(tmp_path / "a.tif", slides="tiles", tile_size=32, tile_tissue=0)

    def test_without_the_package(
        self, tmp_path: Path, bring_in: BringIn, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_svs(tmp_path / "s/a/a.svs", scanned())
        monkeypatch.setitem(sys.modules, "openslide", None)
        slides.openslide.cache_clear()
        try:
            with pytest.raises(DataError, match="openslide") as caught:
                bring_in(tmp_path / "s")
            assert "promptloupe[medical]" in caught.value.remedy
            with pytest.raises(DataError, match="openslide") as caught:
                bring_in(tmp_path / "s", slides="tiles")
            assert "promptloupe[medical]" in caught.value.remedy
            (tmp_path / "s/a/b.png").write_bytes(picture(1))
            report = bring_in(tmp_path / "s")
            assert (report.imported, report.reasons) == (1, {NEEDS_PACKAGE: 1})
        finally:
            slides.openslide.cache_clear()

    def test_cancelling_in_the_middle_of_a_slide_leaves_nothing(
        self, tmp_path: Path, workspace: Workspace, assert_empty: Callable[[], None]
    ) -> None:
        write_pyramid(tmp_path / "s/a.tif", scanned(2048, 2048))
        calls = iter(range(10**6))

        def check() -> None:
            if next(calls) == 30:
                raise Cancelled

        options = ImportOptions(slides="tiles", tile_size=64)
        with pytest.raises(Cancelled):
            import_dataset(workspace, ImportRequest(source=str(tmp_path / "s"), options=options), check_cancelled=check)
        assert_empty()

    def test_progress_never_goes_back(
        self, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(4):
            write_pyramid(tmp_path / f"s/{number}.tif", scanned(1024, 1024, seed=number))
        ticks: Iterator[float] = iter(range(10**6))
        monkeypatch.setattr("engines.data.importer.time.monotonic", lambda: float(next(ticks)))
        told: list[float] = []
        options = ImportOptions(slides="tiles", tile_size=64, split="as-is")
        request = ImportRequest(source=str(tmp_path / "s"), options=options)
        import_dataset(workspace, request, progress=lambda fraction, message: told.append(fraction))
        assert told == sorted(told)
        assert len({round(each, 3) for each in told}) > 50
