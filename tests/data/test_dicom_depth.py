"""DICOM files on their way to the reading screen: all grey levels arrive there, and the model sees what it saw."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.data import ImportReport, load_image, remove_dataset, thumbnail_path
from engines.data.bin import empty_bin
from engines.data.display import Picture, display_folder, display_picture
from engines.data.export import export_dataset
from engines.data.practice import practice_copy
from engines.store import Sample, Workspace
from tests.data.test_dicom import SECRETS, encode, grey, noise, put, scan

pytest.importorskip("pydicom")

BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]
HOUNSFIELD = np.arange(-1024, 3072, dtype=np.int64).reshape(64, 64)
"""Every value of 12 bits once."""
CT = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024, "Modality": "CT"}


def shown(workspace: Workspace, sample: Sample) -> tuple[Picture, np.ndarray]:
    """The picture of a sample for the reading screen, and the values that the page makes of it."""
    picture = display_picture(workspace, sample)
    with Image.open(display_folder(workspace) / picture.file) as image:
        pixels = np.asarray(image)
    assert picture.kind == "deep"
    return picture, picture.low + picture.step * (pixels[..., 0].astype(np.int64) << 8 | pixels[..., 1])


def seen(picture: Picture, values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """What the page paints: the window over the values, in 256 shades."""
    shades = np.rint(255 * np.clip((values - (centre - width / 2)) / width, 0, 1))
    return 255 - shades if picture.inverted else shades


def test_a_narrow_window_tells_values_apart_that_eight_bits_do_not(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    put(tmp_path / "ct/a.dcm", scan((HOUNSFIELD + 1024).astype(np.uint16), **CT, WindowCenter=1024, WindowWidth=4096))
    (sample,) = samples(bring_in(tmp_path / "ct").dataset_id)
    picture, values = shown(workspace, sample)
    assert np.array_equal(values, HOUNSFIELD)
    assert len(np.unique(values)) == 4096
    # The model's picture gives all values from 0 to 99 at most eight shades; a window over them shows each one.
    model = np.asarray(load_image(workspace.resolve(sample.file)))[..., 0]
    chosen = (HOUNSFIELD >= 0) & (HOUNSFIELD < 100)
    assert len(np.unique(model[chosen])) <= 8
    assert len(np.unique(seen(picture, values, 50, 100)[chosen])) == 100


def test_the_files_windows_and_the_usual_ones_are_presets(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    tags = {"WindowCenter": [40, 300, 7], "WindowWidth": [400, 1500], "WindowCenterWidthExplanation": ["Meier", "BONE"]}
    put(tmp_path / "ct/a.dcm", scan((HOUNSFIELD + 1024).astype(np.uint16), **CT, **tags))
    (sample,) = samples(bring_in(tmp_path / "ct", name="one").dataset_id)
    picture, _ = shown(workspace, sample)
    found = [(each.name, each.centre, each.width) for each in picture.presets]
    assert found[:2] == [("", 40, 400), ("Bone", 300, 1500)]
    assert ("Lung", -600, 1500) in found
    assert [name for name, _, _ in found].count("Bone") == 1
    assert (picture.centre, picture.span) == (40, 400)
    (sample,) = samples(bring_in(tmp_path / "ct", name="two", window_center=10.0, window_width=90.0).dataset_id)
    picture, _ = shown(workspace, sample)
    assert (picture.presets[0].name, picture.centre, picture.span) == ("As imported", 10, 90)


def test_other_kinds_offer_their_own_windows_only(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    put(tmp_path / "mr/a.dcm", scan(HOUNSFIELD.astype(np.int16), Modality="MR"))
    (sample,) = samples(bring_in(tmp_path / "mr").dataset_id)
    picture, values = shown(workspace, sample)
    assert picture.presets == []
    low, high = np.percentile(values, (0.1, 99.9))
    assert (picture.centre - picture.span / 2, picture.centre + picture.span / 2) == pytest.approx((low, high))


@pytest.mark.parametrize("slope", [0.5, -2.0, 0.1])
def test_slopes(slope: float, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace) -> None:
    tags = {"RescaleSlope": slope, "RescaleIntercept": 30}
    put(tmp_path / "pet/a.dcm", scan(HOUNSFIELD.astype(np.int16), **tags))
    (sample,) = samples(bring_in(tmp_path / "pet").dataset_id)
    _, values = shown(workspace, sample)
    assert np.allclose(values, HOUNSFIELD * slope + 30, atol=1e-6)


def test_monochrome1_is_dark_where_values_are_high(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1024, "WindowWidth": 4096}
    put(tmp_path / "xray/a.dcm", scan(HOUNSFIELD.astype(np.int16), **tags))
    (sample,) = samples(bring_in(tmp_path / "xray").dataset_id)
    picture, values = shown(workspace, sample)
    assert picture.inverted
    assert np.array_equal(values, HOUNSFIELD)
    model = np.asarray(load_image(workspace.resolve(sample.file)))[..., 0].astype(int)
    assert np.abs(seen(picture, values, picture.centre, picture.span) - model).max() <= 1
    assert model[0, 0] > model[-1, -1]


def test_each_frame_has_its_own_depth(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    stack = np.stack([HOUNSFIELD, HOUNSFIELD[::-1], HOUNSFIELD.T]).astype(np.int16)
    put(tmp_path / "cine/a.dcm", scan(stack, WindowCenter=0, WindowWidth=500))
    found = samples(bring_in(tmp_path / "cine").dataset_id)
    assert len(found) == 3
    for sample, frame in zip(found, stack, strict=True):
        assert np.array_equal(shown(workspace, sample)[1], frame)


def test_enhanced_files_keep_rescale_and_window_in_groups(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    from pydicom.dataset import Dataset as Tags

    def group(**parts: dict[str, Any]) -> Tags:
        made = Tags()
        for sequence, tags in parts.items():
            item = Tags()
            for name, value in tags.items():
                setattr(item, name, value)
            setattr(made, sequence, [item])
        return made

    found = scan(np.stack([HOUNSFIELD, HOUNSFIELD]).astype(np.int16), PatientComments="ward seven")
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -7}
    found.SharedFunctionalGroupsSequence = [group(PixelValueTransformationSequence=rescale)]
    found.PerFrameFunctionalGroupsSequence = [
        group(FrameVOILUTSequence={"WindowCenter": centre, "WindowWidth": 100}) for centre in (10, 20)
    ]
    put(tmp_path / "enhanced/a.dcm", found)
    for sample, centre in zip(samples(bring_in(tmp_path / "enhanced").dataset_id), (10, 20), strict=True):
        picture, values = shown(workspace, sample)
        assert np.array_equal(values, HOUNSFIELD * 2 - 7)
        assert (picture.centre, picture.span) == (centre, 100)


def test_padding_is_as_dark_as_the_darkest_value(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    padded = HOUNSFIELD.astype(np.int16)
    padded[:5] = -32768
    put(tmp_path / "ct/a.dcm", scan(padded, PixelPaddingValue=-32768))
    (sample,) = samples(bring_in(tmp_path / "ct").dataset_id)
    _, values = shown(workspace, sample)
    assert values.min() == padded[5:].min()
    assert np.array_equal(values[5:], padded[5:])


def test_colour_and_eight_bits_need_no_depth(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    put(tmp_path / "us/a.dcm", scan(noise(1, (9, 7, 3))))
    put(tmp_path / "us/b.dcm", scan(noise(2)))
    colour, plain = samples(bring_in(tmp_path / "us").dataset_id)
    assert display_picture(workspace, colour).kind == "colour"
    assert display_picture(workspace, plain).kind == "grey"
    assert not list(workspace.folder("media").rglob("*.deep.png"))


def test_eight_bits_that_a_window_cuts_keep_all_their_values(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    put(tmp_path / "us/a.dcm", scan(noise(2), WindowCenter=100, WindowWidth=20))
    (sample,) = samples(bring_in(tmp_path / "us").dataset_id)
    assert np.array_equal(shown(workspace, sample)[1], noise(2))


def test_images_that_look_alike_through_their_window_are_not_the_same(tmp_path: Path, bring_in: BringIn) -> None:
    for name, add in (("a", 0), ("b", 1)):
        values = (np.arange(64).reshape(8, 8) + 500 + add).astype(np.int16)
        put(tmp_path / f"ct/{name}.dcm", scan(values, WindowCenter=0, WindowWidth=100))
    put(tmp_path / "ct/c.dcm", scan(values, WindowCenter=0, WindowWidth=100))
    report = bring_in(tmp_path / "ct")
    assert report.imported == 2
    assert report.reasons == {"a duplicate: the same content came in already": 1}


@pytest.mark.parametrize("width", [0, -3, "", [0, 400]])
def test_a_window_that_makes_no_sense_costs_no_image(
    width: Any, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    put(tmp_path / "ct/a.dcm", scan(HOUNSFIELD.astype(np.int16), WindowCenter=[40, 50], WindowWidth=width))
    (sample,) = samples(bring_in(tmp_path / "ct").dataset_id)
    assert np.array_equal(shown(workspace, sample)[1], HOUNSFIELD)


def test_what_is_damaged_leaves_no_depth_behind(tmp_path: Path, bring_in: BringIn, workspace: Workspace) -> None:
    put(tmp_path / "ct/a.dcm", scan(HOUNSFIELD.astype(np.int16)))
    cut = encode(scan(HOUNSFIELD.astype(np.int16) + 1))
    (tmp_path / "ct/b.dcm").write_bytes(cut[: len(cut) - 900])
    report = bring_in(tmp_path / "ct")
    assert (report.imported, len(report.left_out)) == (1, 1)
    assert len(list(workspace.folder("media").rglob("*.deep.png"))) == 1


def test_an_image_without_its_depth_is_still_shown(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    """As in data sets that were imported by an older program, or whose file was damaged."""
    put(tmp_path / "ct/a.dcm", scan(HOUNSFIELD.astype(np.int16)))
    put(tmp_path / "ct/b.dcm", scan(HOUNSFIELD.T.astype(np.int16)))
    first, second = samples(bring_in(tmp_path / "ct").dataset_id)
    kept = [workspace.resolve(sample.file).with_suffix(".deep.png") for sample in (first, second)]
    kept[0].unlink()
    kept[1].write_bytes(kept[1].read_bytes()[:-60])
    for sample in (first, second):
        assert display_picture(workspace, sample).kind == "grey"


def test_a_users_own_file_is_never_taken_for_a_depth(tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
    for name in ("a.png", "a.deep.png"):
        Image.fromarray(noise(len(name))).save(tmp_path / name)
    report = bring_in(tmp_path)
    assert report.imported == 2


def test_exports_thumbnails_and_copies_get_the_windowed_picture(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    tags = {"WindowCenter": 40, "WindowWidth": 400}
    for number, folder in enumerate(("well", "well", "ill", "ill")):
        put(tmp_path / f"ct/{folder}/{number}.dcm", scan(np.roll(HOUNSFIELD, number).astype(np.int16), **tags))
    report = bring_in(tmp_path / "ct")
    export = export_dataset(workspace, report.dataset_id, "zip")
    with zipfile.ZipFile(workspace.resolve(export.path)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) == 4
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "L"
    expected = grey(scan(HOUNSFIELD.astype(np.int16), **tags))
    found = samples(report.dataset_id)
    pictures = [np.asarray(load_image(workspace.resolve(sample.file)))[..., 0] for sample in found]
    assert any(np.array_equal(one, expected) for one in pictures)
    assert all(thumbnail_path(workspace, sample).exists() for sample in found)
    copy = samples(practice_copy(workspace, report.dataset_id))
    assert {shown(workspace, sample)[0].kind for sample in copy} == {"deep"}


def test_the_bin_takes_the_depth_along(tmp_path: Path, bring_in: BringIn, workspace: Workspace) -> None:
    put(tmp_path / "ct/a.dcm", scan(HOUNSFIELD.astype(np.int16)))
    remove_dataset(workspace, bring_in(tmp_path / "ct").dataset_id)
    empty_bin(workspace, older_than_days=0)
    assert not list(workspace.folder("media").rglob("*.deep.png"))


def test_nothing_of_the_patient_gets_into_the_depth(
    tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
) -> None:
    tags = {
        "WindowCenter": 40,
        "WindowWidth": 400,
        "WindowCenterWidthExplanation": "Meier^Erika",
        "ImageComments": "ACC-99",
    }
    put(tmp_path / "ct/a.dcm", scan(HOUNSFIELD.astype(np.int16), **tags))
    (sample,) = samples(bring_in(tmp_path / "ct").dataset_id)
    display_picture(workspace, sample)
    workspace.close()
    for file in filter(Path.is_file, workspace.path.rglob("*")):
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), file.name
