"""Pictures for the screen: what the browser unpacks is what the file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engines.data.depth import decode, deep
from engines.data.depth import encode as encode_depth
from engines.data.display import LONGEST_SIDE, Picture, display_folder, display_picture
from engines.errors import DataError
from engines.store import Sample, Workspace
from tests.data.conftest import encode

Show = Callable[[bytes], tuple[Picture, np.ndarray]]


@pytest.fixture
def show(workspace: Workspace, tmp_path: Path) -> Show:
    """The picture of a file's bytes, and the pixels that the browser gets."""

    def shown(data: bytes, name: str = "one") -> tuple[Picture, np.ndarray]:
        (tmp_path / name).write_bytes(data)
        sample = Sample(file=str(tmp_path / name), sha256=hashlib.sha256(data).hexdigest())
        picture = display_picture(workspace, sample)
        with Image.open(display_folder(workspace) / picture.file) as image:
            return picture, np.asarray(image)

    return shown


def values(picture: Picture, pixels: np.ndarray) -> np.ndarray:
    """What the page makes of a deep picture."""
    codes = pixels[..., 0].astype(np.int64) << 8 | pixels[..., 1]
    return picture.low + picture.step * codes


def test_sixteen_bits_arrive_as_they_are(show: Show) -> None:
    numbers = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21
    picture, pixels = show(encode(Image.fromarray(numbers), "TIFF"))
    assert picture.kind == "deep"
    assert np.array_equal(values(picture, pixels), numbers)
    # The window at first leaves almost nothing out and wastes almost nothing.
    assert picture.centre - picture.span / 2 == pytest.approx(np.percentile(numbers, 0.1))
    assert picture.centre + picture.span / 2 == pytest.approx(np.percentile(numbers, 99.9))


def test_floats_and_long_ranges_are_spread_over_all_codes(show: Show) -> None:
    numbers = np.linspace(-3.5, 1e6, 900, dtype=np.float32).reshape(30, 30)
    picture, pixels = show(encode(Image.fromarray(numbers), "TIFF"))
    assert np.abs(values(picture, pixels) - numbers).max() <= picture.step
    assert picture.step == pytest.approx((1e6 + 3.5) / 65535)


@given(st.integers(-40000, 40000), st.integers(0, 60000), st.floats(0.01, 50), st.integers(0, 2**32 - 1))
def test_values_survive_being_kept(low: int, span: int, slope: float, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(low, low + span, (5, 7), endpoint=True)
    for wanted, step in ((numbers, None), (numbers * slope - 1024, slope)):
        kept = decode(encode_depth(deep(wanted, step=step)))
        assert kept is not None
        assert np.allclose(kept.values(), wanted, rtol=0, atol=1e-6 * max(1, abs(wanted).max()))


def test_a_constant_or_endless_image_still_has_a_window(show: Show) -> None:
    picture, _ = show(encode(Image.fromarray(np.full((8, 8), 700, np.uint16)), "TIFF"))
    assert picture.span == 1
    numbers = np.array([[np.nan, np.inf], [2.0, 4.0]], np.float32)
    picture, pixels = show(encode(Image.fromarray(numbers), "TIFF"))
    assert np.allclose(values(picture, pixels), [[2, 4], [2, 4]])


def test_eight_bits_keep_their_kind(show: Show) -> None:
    colours = np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8)
    picture, pixels = show(encode(Image.fromarray(colours), "BMP"))
    assert (picture.kind, picture.width, picture.height) == ("colour", 30, 20)
    assert np.array_equal(pixels, colours)
    grey = np.dstack([colours[..., 0]] * 3)
    picture, pixels = show(encode(Image.fromarray(grey), "BMP"))
    assert picture.kind == "grey"
    assert np.array_equal(pixels, colours[..., 0])


def test_a_file_that_fits_is_passed_on_untouched(show: Show, workspace: Workspace) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 255, (1200, 1600, 3), np.uint8))
    data = encode(noise, "JPEG", quality=80)
    picture, _ = show(data)
    assert (display_folder(workspace) / picture.file).read_bytes() == data


def test_rotation_is_applied(show: Show) -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture, pixels = show(encode(image, "JPEG", exif=exif, quality=95))
    assert (picture.width, picture.height, picture.full_width, picture.full_height) == (20, 40, 20, 40)
    assert pixels[5, 10, 1] < 60
    assert pixels[35, 10, 1] > 200


@pytest.mark.parametrize("size", [(3000, 500), (200, 2500)])
def test_large_images_are_reduced_and_small_ones_never_enlarged(show: Show, size: tuple[int, int]) -> None:
    for mode, format in (("RGB", "JPEG"), ("I;16", "TIFF")):
        picture, pixels = show(encode(Image.new(mode, size), format))
        assert (picture.full_width, picture.full_height) == size
        assert max(picture.width, picture.height) == LONGEST_SIDE
        assert pixels.shape[:2] == (picture.height, picture.width)
        assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.01)


def test_it_is_made_once(show: Show, workspace: Workspace, tmp_path: Path) -> None:
    data = encode(Image.new("RGB", (9, 9), "blue"), "TIFF")
    first, _ = show(data)
    (tmp_path / "one").unlink()
    sample = Sample(file=str(tmp_path / "one"), sha256=hashlib.sha256(data).hexdigest())
    assert display_picture(workspace, sample) == first
    (display_folder(workspace) / first.file).unlink()  # a picture that is gone is made again, here from nothing
    with pytest.raises(DataError, match="does not exist"):
        display_picture(workspace, sample)
    assert not list(display_folder(workspace).rglob("*.part"))


def test_dicom_keeps_its_values_and_its_window(show: Show) -> None:
    pytest.importorskip("pydicom")
    from tests.data import test_dicom as dicom

    stored = np.arange(-1000, 3096, dtype=np.int16).reshape(64, 64)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -24, "WindowCenter": [40, 300], "WindowWidth": [400, 1500]}
    picture, pixels = show(dicom.encode(dicom.scan(stored, **tags)))
    assert picture.kind == "deep"
    assert np.array_equal(values(picture, pixels), stored.astype(int) * 2 - 24)
    assert (picture.centre, picture.span, picture.inverted) == (40, 400, False)
    inverted = dicom.scan(stored, PhotometricInterpretation="MONOCHROME1")
    assert show(dicom.encode(inverted))[0].inverted
    assert show(dicom.encode(dicom.scan(dicom.noise(1))))[0].kind == "grey"


@pytest.mark.parametrize("harm", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"no image"])
def test_a_damaged_image_says_why_without_its_name(show: Show, harm: Callable[[bytes], bytes]) -> None:
    data = encode(Image.fromarray(np.random.default_rng(3).integers(0, 255, (90, 90, 3), np.uint8)), "JPEG")
    with pytest.raises(DataError, match="cannot be shown") as caught:
        show(harm(data), "Jane Doe 1950.jpg")  # type: ignore[call-arg]
    assert "Jane" not in str(caught.value) + caught.value.detail
    assert "not gradable" in caught.value.remedy
