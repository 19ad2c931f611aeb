"""Decoding: every way of storing pixels becomes the same RGB, and damage gets a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.data import load_image
from engines.data.images import inspect_image, stretch
from engines.errors import DataError


def encode(image: Image.Image, format: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


def ramp(width: int = 24, height: int = 16) -> Image.Image:
    """A smooth picture, so that lossy formats come close: red from left to right, green from top to bottom."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 90)], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("format", "how", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95}, 12),
    ],
)
def test_formats(format: str, how: dict[str, object], tolerance: int) -> None:
    image = load_image(encode(ramp(), format, **how))
    assert (image.mode, image.size) == ("RGB", (24, 16))
    assert np.abs(np.asarray(image, int) - np.asarray(ramp(), int)).max() <= tolerance


TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright picture, by the EXIF orientation that it notes."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = ramp()
    stored = upright.transpose(TURNED[orientation]) if orientation in TURNED else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, "PNG", exif=exif)
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(upright))
    found = inspect_image(encode(stored.resize((stored.width * 40, stored.height * 40)), "JPEG", exif=exif))
    assert (found.width, found.height) == (24 * 40, 16 * 40)
    assert found.thumbnail.width == 160


def test_a_square_image_that_lies_on_its_side() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = inspect_image(encode(ramp(20, 20), "JPEG", exif=exif))
    assert (found.width, found.height) == (20, 20)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_greyscale_keeps_its_shades(kind: type) -> None:
    # 12 bits in a larger container: read as they stand, the values would all be nearly black.
    shades = np.linspace(100, 4000, 64 * 64).reshape(64, 64).astype(kind)
    grey = np.asarray(load_image(encode(Image.fromarray(shades), "TIFF")))[..., 0].astype(int)
    assert grey.min() == 0
    assert grey.max() == 255
    assert np.all(np.diff(grey.ravel()) >= 0)
    assert len(np.unique(grey)) == 256


def test_deep_png() -> None:
    shades = np.arange(0, 60_000, 60, np.uint16).reshape(25, 40)
    grey = np.asarray(load_image(encode(Image.fromarray(shades), "PNG")))
    assert np.ptp(grey) == 255
    assert grey.shape == (25, 40, 3)


def test_one_hot_pixel_does_not_darken_the_rest() -> None:
    shades = np.tile(np.arange(100, 228, dtype=np.uint16), (64, 1))
    shades[0, 0] = 65_535
    assert np.median(stretch(shades)) > 100


def test_constant_and_undefined_values() -> None:
    assert np.all(stretch(np.full((4, 4), 700, np.uint16)) == 128)
    values = np.array([[0, np.nan], [np.inf, 1]], np.float32)
    assert stretch(values).tolist() == [[0, 0], [255, 255]]
    assert np.all(stretch(np.full((2, 2), np.nan, np.float32)) == 128)


def test_transparency_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    found = load_image(encode(image, "PNG"))
    assert [found.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0), (255, 255, 255)]
    palette = image.quantize(4)
    assert load_image(encode(palette, "PNG")).getpixel((1, 0)) == (255, 255, 255)
    grey = Image.merge("LA", (Image.new("L", (1, 1), 10), Image.new("L", (1, 1), 0)))
    assert load_image(encode(grey, "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "format"), [("1", "PNG"), ("L", "PNG"), ("P", "BMP"), ("CMYK", "TIFF"), ("CMYK", "JPEG")]
)
def test_other_modes(mode: str, format: str) -> None:
    white = load_image(encode(Image.new("RGB", (3, 3), "white").convert(mode), format))
    assert white.mode == "RGB"
    assert min(white.getpixel((1, 1))) > 245


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


JPEG = encode(ramp(200, 200), "JPEG")
PNG = encode(ramp(200, 200), "PNG", compress_level=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, world" * 100, "not a PNG, JPEG, WebP, BMP or TIFF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG, JPEG, WebP, BMP or TIFF"),
        (encode(ramp(), "GIF"), "not a PNG, JPEG, WebP, BMP or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG, JPEG, WebP, BMP or TIFF"),
        (JPEG[: len(JPEG) // 2], "cut off"),
        (PNG[: len(PNG) // 2], "cut off"),
        (encode(ramp(), "BMP")[:400], "cut off"),
        (encode(ramp(200, 200), "WEBP")[:300], "damaged"),
        (encode(ramp(), "TIFF")[:60], "TIFF that is damaged"),
        (PNG[:10], "damaged"),
        (JPEG[:20], "damaged|cut off"),
        (PNG[:300] + bytes(60_000) + PNG[60_300:], "damaged|cut off"),
        (bomb(50_000, 50_000), "too large: more than 100 million pixels"),
        (bomb(12_000, 12_000), "too large: more than 100 million pixels"),
        (bomb(0, 50), "empty|damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_decoded_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_image(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pixels_can_be_set(picture: Callable[..., bytes]) -> None:
    assert load_image(picture(0, (20, 20)), max_pixels=400).size == (20, 20)
    with pytest.raises(DataError, match=r"more than 0\.000399 million pixels"):
        load_image(picture(0, (20, 20)), max_pixels=399)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert load_image(tmp_path / "a.png").size == (200, 200)
    assert load_image(str(tmp_path / "a.png")).size == (200, 200)
    with pytest.raises(DataError, match=r"“b\.png” cannot be used: the file does not exist"):
        load_image(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"not a file|cannot be opened"):
        load_image(tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        load_image("nul\0byte.png")
