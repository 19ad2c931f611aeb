"""Photos keep what they are: depth, greyscale, transparency, profile; bad files get reasons, originals stay."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from engines.enhance import Photo, read_photo, save_photo
from engines.errors import DataError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(np.uint16)


def image(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


# --- what is read -----------------------------------------------------------------


def test_colour_profile_and_values_stay(tmp_path: Path) -> None:
    photo = read_photo(image(tmp_path / "a.png", Image.fromarray(COLOURS), icc_profile=SRGB))
    assert photo.pixels.dtype == np.float32
    assert np.allclose(photo.pixels * 255, COLOURS, atol=1e-4)
    for name in ("b.png", "b.tif"):
        with Image.open(save_photo(photo, tmp_path / name)) as saved:
            assert saved.info["icc_profile"] == SRGB
            assert np.array_equal(np.asarray(saved), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_orientation(tmp_path: Path, orientation: int, deep: bool) -> None:
    """Shown upright, saved upright, and no longer marked as turned; Pillow says what upright is."""
    path = tmp_path / "a.tif"
    if deep:
        tifffile.imwrite(path, DEEP, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        path = image(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    shown = Image.fromarray((DEEP // 256).astype(np.uint8) if deep else COLOURS)
    expected = np.asarray(shown if method is None else shown.transpose(Image.Transpose(method)))
    photo = read_photo(path)
    assert photo.pixels.shape == expected.shape
    assert np.allclose(photo.pixels * 255, expected, atol=1.1 if deep else 1e-4)
    again = read_photo(save_photo(photo, tmp_path / "b.tif"))
    assert np.array_equal(again.pixels, photo.pixels)


def test_grey_stays_grey(tmp_path: Path) -> None:
    photo = read_photo(image(tmp_path / "a.png", Image.fromarray(COLOURS[..., 0])))
    assert photo.grey
    assert photo.pixels.shape == (5, 7, 3)
    with Image.open(save_photo(photo, tmp_path / "b.png")) as saved:
        assert saved.mode == "L"
        assert np.array_equal(np.asarray(saved), COLOURS[..., 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_stays(tmp_path: Path, mode: str) -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    picture = Image.fromarray(COLOURS)
    picture.putalpha(Image.fromarray(alpha))
    if mode == "PA":
        picture = picture.quantize(16)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    elif mode == "LA":
        picture = picture.convert("LA")
    photo = read_photo(image(tmp_path / "a.png", picture))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, alpha)
    for name in ("b.png", "b.tif"):
        again = read_photo(save_photo(photo, tmp_path / name))
        assert np.array_equal(again.alpha, alpha)
        assert np.array_equal(again.pixels, photo.pixels)


def test_palette_and_cmyk(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOURS).quantize(8)
    photo = read_photo(image(tmp_path / "a.png", palette))
    assert np.allclose(photo.pixels * 255, np.asarray(palette.convert("RGB")), atol=1e-4)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    photo = read_photo(image(tmp_path / "c.tif", cmyk))
    assert photo.pixels[0, 0].argmax() == 0
    assert photo.icc
    assert "CMYK" in photo.notes[0]


@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey", "planar", "white-is-zero"])
def test_sixteen_bits_stay(tmp_path: Path, kind: str) -> None:
    alpha = DEEP[..., :1] // 2
    values = {"rgba": np.dstack([DEEP, alpha]), "grey": DEEP[..., 0], "white-is-zero": DEEP[..., 0]}.get(kind, DEEP)
    options: dict[str, object] = {"photometric": "rgb" if values.ndim == 3 else "minisblack"}
    if kind == "planar":
        values, options["planarconfig"] = DEEP.transpose(2, 0, 1), "separate"
    elif kind == "rgba":
        options["extrasamples"] = ["unassalpha"]
    elif kind == "white-is-zero":
        options["photometric"] = "miniswhite"
    tifffile.imwrite(tmp_path / "a.tif", values, iccprofile=SRGB, **options)  # type: ignore[arg-type]
    photo = read_photo(tmp_path / "a.tif")
    assert (photo.bits, photo.grey, photo.icc) == (16, values.ndim == 2, SRGB)
    save_photo(photo, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        saved = file.asarray()
        assert bytes(file.pages.first.tags[34675].value) == SRGB  # type: ignore[union-attr]
    expected = {"planar": DEEP, "white-is-zero": 65535 - DEEP[..., 0]}.get(kind, values)
    assert saved.dtype == np.uint16
    assert np.array_equal(saved, expected)


def test_sixteen_bit_grey_png(tmp_path: Path) -> None:
    photo = read_photo(image(tmp_path / "a.png", Image.fromarray(DEEP[..., 0])))
    assert (photo.bits, photo.grey) == (16, True)
    with Image.open(save_photo(photo, tmp_path / "b.png")) as saved:
        assert np.array_equal(np.asarray(saved).astype(np.uint16), DEEP[..., 0])


def test_lost_bits_are_told(tmp_path: Path) -> None:
    """Colour PNGs of 16 bits are read with 8, which must not go unsaid; nor may saving lose them."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert any("16 bits" in note for note in read_photo(path).notes)
    with pytest.raises(DataError, match="16 bits"):
        save_photo(Photo(np.zeros((2, 2, 3), np.float32), bits=16), tmp_path / "x.png")


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    bits=st.sampled_from([8, 16]),
    grey=st.booleans(),
    transparent=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_photo_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    bits: int,
    grey: bool,
    transparent: bool,
    seed: int,
) -> None:
    draw, top = np.random.default_rng(seed), 2**bits - 1
    values = draw.integers(0, top + 1, (height, width, 1 if grey else 3)).repeat(3 if grey else 1, 2)
    alpha = draw.integers(0, top + 1, (height, width)).astype(np.uint8 if bits == 8 else np.uint16)
    photo = Photo((values / top).astype(np.float32), bits, grey, alpha if transparent else None)
    again = read_photo(save_photo(photo, tmp_path_factory.mktemp("photo") / "a.tif"))
    assert (again.bits, again.grey) == (bits, grey)
    assert np.array_equal(np.rint(again.pixels.astype(np.float64) * top), values)
    assert (again.alpha is None) != transparent
    assert not transparent or np.array_equal(again.alpha, alpha)


# --- bad files --------------------------------------------------------------------


def encoded(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (picture or Image.fromarray(COLOURS.repeat(20, 0).repeat(20, 1))).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def animation(kind: str) -> bytes:
    return encoded(kind, Image.new("RGB", (9, 9)), save_all=True, append_images=[Image.new("RGB", (9, 9), "red")])


def deep_tiff(cut: int | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP.repeat(9, 0), photometric="rgb", **options)  # type: ignore[arg-type]
    return buffer.getvalue()[:cut]


def huge_png() -> bytes:
    data = bytearray(encoded("PNG", Image.new("L", (1, 1))))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "cut JPEG": ("a.jpg", lambda: encoded("JPEG")[:1200], "cut off"),
    "cut PNG": ("a.png", lambda: encoded("PNG", Image.effect_noise((90, 90), 80))[:2000], "cut off|damaged"),
    "cut TIFF": ("a.tif", lambda: encoded("TIFF")[:400], "damaged|cut off|TIFF"),
    "cut 16-bit TIFF": ("a.tif", lambda: deep_tiff(400), "damaged|cut off"),
    "two bytes of a TIFF": ("a.tif", lambda: b"II*\0\0", "damaged"),
    "empty": ("a.jpg", lambda: b"", "empty"),
    "text": ("a.jpg", lambda: b"Dear colleague, here are the photos.", "not a PNG"),
    "web page": ("a.png", lambda: b"<html><body>404</body></html>", "not a PNG"),
    "noise": ("a.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "damaged"),
    "zeros": ("a.tif", lambda: bytes(500), "not a PNG"),
    "GIF": ("a.gif", lambda: animation("GIF"), "GIF"),
    "GIF named .png": ("a.png", lambda: animation("GIF"), "GIF"),
    "animated PNG": ("a.png", lambda: animation("PNG"), "animation of 2"),
    "animated WebP": ("a.webp", lambda: animation("WEBP"), "animation of 2"),
    "HEIC": ("a.heic", lambda: b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "HEIC named .jpg": ("a.jpg", lambda: b"\0\0\0\x18ftypmif1" + bytes(40), "HEIC"),
    "AVIF": ("a.avif", lambda: b"\0\0\0\x18ftypavif" + bytes(40), "AVIF"),
    "DICOM": ("a.dcm", lambda: bytes(128) + b"DICM" + bytes(60), "DICOM"),
    "PDF": ("a.pdf", lambda: b"%PDF-1.7\n" + bytes(60), "not a PNG"),
    "huge": ("a.png", huge_png, "too large"),
    "floats": ("a.tif", lambda: encoded("TIFF", Image.new("F", (4, 4))), "8 or 16 bits"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gets_a_reason(tmp_path: Path, name: str) -> None:
    filename, make, reason = BAD[name]
    (tmp_path / filename).write_bytes(make())
    with pytest.raises(DataError, match=reason) as caught:
        read_photo(tmp_path / filename)
    assert filename in caught.value.what
    assert caught.value.remedy


def test_bad_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_photo(tmp_path / "nothing.png")
    with pytest.raises(DataError, match="not a file"):
        read_photo(tmp_path)
    with pytest.raises(DataError, match="too large"):
        read_photo(image(tmp_path / "a.png", Image.new("L", (100, 100))), max_pixels=9999)
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((100, 100), np.uint16))
    with pytest.raises(DataError, match="too large"):
        read_photo(tmp_path / "deep.tif", max_pixels=9999)


def test_pages_beyond_the_first_are_told(tmp_path: Path) -> None:
    first = Image.new("RGB", (9, 9), "red")
    path = image(tmp_path / "a.tif", first, save_all=True, append_images=[Image.new("RGB", (9, 9))])
    photo = read_photo(path)
    assert photo.notes == ("Only the first of 2 pages was read.",)
    assert photo.pixels[0, 0].tolist() == [1, 0, 0]


# --- saving -----------------------------------------------------------------------

PHOTO = Photo(np.full((4, 4, 3), 0.5, np.float32))


def test_no_file_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = image(tmp_path / "a.png", Image.fromarray(COLOURS))
    before = original.read_bytes()
    with pytest.raises(DataError, match="no file is overwritten"):
        save_photo(PHOTO, original)

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "not supported")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(DataError, match="no file is overwritten"):
        save_photo(PHOTO, original)
    assert original.read_bytes() == before
    save_photo(PHOTO, tmp_path / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_full_disk_and_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(code: int) -> Callable[[int], None]:
        def fail(_: int) -> None:
            raise OSError(code, os.strerror(code))

        return fail

    for code, words in ((errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(code))
            with pytest.raises(DataError, match=words):
                save_photo(PHOTO, tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_photo(PHOTO, tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_formats_without_loss(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without loss"):
        save_photo(PHOTO, tmp_path / "a.jpg")
