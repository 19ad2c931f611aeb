"""Photos read and written faithfully: depth, greyscale, transparency and colour profile stay; originals too."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from engines.data.images import MAX_PIXELS, Undecodable, check_size, open_image, read_file
from engines.enhance.checkpoint import save_whole
from engines.errors import DataError

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TURNS = {
    2: (False, 0, 1),
    3: (False, 1, 1),
    4: (False, 1, 0),
    5: (True, 0, 0),
    6: (True, 0, 1),
    7: (True, 1, 1),
    8: (True, 1, 0),
}
"""EXIF orientation: whether rows and columns change places, and then whether rows and columns run backwards."""


@dataclass(frozen=True)
class Photo:
    """A photo as it is shown (EXIF orientation applied).

    Attributes:
        pixels: [H, W, 3] float32, RGB in 0..1 in the photo's own colour space; greyscale three times.
        bits: 8 or 16 a channel.
        grey: whether it was greyscale.
        alpha: [H, W] uint8 or uint16, or None.
        icc: colour profile of `pixels`.
        exif: without orientation.
        notes: what could not be kept, in words.
    """

    pixels: np.ndarray
    bits: int = 8
    grey: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = field(default=())

    def with_pixels(self, pixels: np.ndarray) -> Photo:
        """The same photo with other pixels of the same size."""
        return replace(self, pixels=pixels)


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read PNG, JPEG, WebP, BMP or TIFF, 8 or (TIFF, grey PNG) 16 bits a channel.

    Raises:
        DataError: missing, empty, cut off, damaged, an animation, a format that cannot be read, too many pixels.
    """
    path = Path(path)
    try:
        data = read_file(path)
        _refuse_foreign(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            photo = _read_deep_tiff(data, max_pixels)
            if photo is not None:
                return photo
        with open_image(data, max_pixels) as image:
            return _read_image(image, data)
    except Undecodable as error:
        raise DataError(
            f"“{path.name}” cannot be enhanced: {error.reason}.",
            "Choose another file, or save it as PNG, JPEG or TIFF.",
            error.detail,
        ) from error


def save_photo(photo: Photo, path: str | Path) -> Path:
    """Write a photo as PNG or TIFF, without loss; no file that exists is ever touched.

    Raises:
        DataError: the name is taken, the format cannot keep the photo, the disk is full or the folder read-only.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".tif", ".tiff"):
        raise DataError(
            f"“{path.name}” cannot be written: photos are saved without loss.", "Choose a name ending in .png or .tif."
        )
    if suffix == ".png" and photo.bits == 16 and not (photo.grey and photo.alpha is None):
        raise DataError(f"“{path.name}” cannot keep the 16 bits of this colour photo.", "Choose a name ending in .tif.")
    content = _tiff(photo) if photo.bits == 16 and suffix != ".png" else _encoded(photo, suffix)
    try:
        save_whole(path, content, _put_new)
    except FileExistsError as error:
        raise DataError(
            f"There is a file “{path.name}” already, and no file is overwritten.", "Choose another name or folder."
        ) from error
    return path


def _put_new(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # fails where the name is taken, even by a file made just now
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.replace(part, path)


def _refuse_foreign(data: bytes) -> None:
    if data[:4] == b"GIF8":
        raise Undecodable("a GIF, which is an animation or has too few colours")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis", b"avif"):
        raise Undecodable("a HEIC or AVIF photo, for which there is no decoder here")
    if data[128:132] == b"DICM":
        raise Undecodable("a DICOM image, whose intensities are measurements and must not be changed")


def _read_image(image: Image.Image, data: bytes) -> Photo:
    frames, notes = int(getattr(image, "n_frames", 1)), []
    if frames > 1 and image.format in ("PNG", "WEBP"):
        raise Undecodable(f"an animation of {frames} pictures")
    if frames > 1 and image.format == "TIFF":
        notes.append(f"Only the first of {frames} pages was read.")
    if image.format == "PNG" and len(data) > 24 and data[24] == 16 and image.mode not in ("I;16", "I;16B", "I"):
        notes.append("The file has 16 bits a channel, of which 8 were read; save it as TIFF to keep all.")
    icc = image.info.get("icc_profile")
    try:
        image.load()
        image = _transposed(image)
    except MemoryError as error:
        raise Undecodable("too large for this machine’s memory") from error
    except Exception as error:  # decoders answer damaged data with any kind of error
        words = str(error).lower()
        cut = "truncated" in words or "end of file" in words or "not enough" in words
        reason = "cut off: the end of the file is missing" if cut else "damaged: the pixels cannot be decoded"
        raise Undecodable(reason, repr(error)) from error
    exif = image.getexif().tobytes() if len(image.getexif()) else None
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32) / 65535
        return Photo(_three(values), 16, grey=True, icc=icc, exif=exif, notes=tuple(notes))
    if image.mode == "F":
        raise Undecodable("a photo whose values are not whole numbers of 8 or 16 bits")
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        image, icc, note = _to_rgb(image, icc)
        notes.append(note)
    grey = image.mode in ("L", "LA", "1")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    values = np.asarray(image.convert("L" if grey else "RGB"), np.float32) / 255
    return Photo(_three(values) if grey else values, 8, grey, alpha, icc, exif, tuple(notes))


def _transposed(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes, str]:
    """Through the photo's own profile where it has one; the result is sRGB."""
    target = ImageCms.createProfile("sRGB")
    profile = ImageCms.ImageCmsProfile(target).tobytes()
    if icc and image.mode == "CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if converted is not None:
                return converted, profile, "CMYK became sRGB through the photo’s own profile."
        except ImageCms.PyCMSError:  # an unusable profile: as if there were none
            pass
    name = image.mode
    if name == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, target, outputMode="RGB")
        assert converted is not None
        return converted, profile, "Lab became sRGB."
    return image.convert("RGB"), profile, f"{name} became sRGB without a profile; colours may shift."


def _read_deep_tiff(data: bytes, max_pixels: int) -> Photo | None:
    """A TIFF of 16 bits a channel, or None for another one, which Pillow reads."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.dtype != np.uint16:
                return None
            check_size(page.imagewidth, page.imagelength, max_pixels)
            values = page.asarray()
            tags = page.tags
            turn = int(tags[274].value) if 274 in tags else 1
            icc = bytes(tags[34675].value) if 34675 in tags else None
            planar, photometric, pages = page.planarconfig, int(page.photometric), len(file.pages)
    except Undecodable:
        raise
    except MemoryError as error:
        raise Undecodable("too large for this machine’s memory") from error
    except Exception as error:  # damaged files are answered with any kind of error
        raise Undecodable("a TIFF that is damaged, or packed in a way that cannot be read here", repr(error)) from error
    if values.ndim == 3 and planar == 2:
        values = values.transpose(1, 2, 0)
    channels = 1 if values.ndim == 2 else values.shape[2]
    if values.ndim not in (2, 3) or channels > 4 or photometric not in (0, 1, 2):
        raise Undecodable("a TIFF of 16 bits with other channels than grey or RGB")
    values = _turned(values, turn).reshape(*_turned(values, turn).shape[:2], channels)
    alpha = np.ascontiguousarray(values[..., -1]) if channels in (2, 4) else None
    grey = channels < 3
    colours = values[..., : 1 if grey else 3].astype(np.float32) / 65535
    if photometric == 0:
        colours = 1 - colours
    notes = (f"Only the first of {pages} pages was read.",) if pages > 1 else ()
    return Photo(_three(colours[..., 0]) if grey else colours, 16, grey, alpha, icc, None, notes)


def _turned(values: np.ndarray, turn: int) -> np.ndarray:
    """Pixels [H, W, ...] as an EXIF orientation of 1 to 8 wants them shown."""
    swap, rows, columns = _TURNS.get(turn, (False, 0, 0))
    values = values.swapaxes(0, 1) if swap else values
    return values[:: -1 if rows else 1, :: -1 if columns else 1]


def _three(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def _channels(photo: Photo) -> np.ndarray:
    """[H, W], or [H, W, C] with alpha last, in whole numbers."""
    top = 2**photo.bits - 1
    kind = np.uint8 if photo.bits == 8 else np.uint16
    values = photo.pixels @ LUMA if photo.grey else photo.pixels
    whole = np.rint(np.clip(values, 0, 1) * top).astype(kind)
    if photo.alpha is None:
        return whole
    return np.dstack([whole, photo.alpha])


def _encoded(photo: Photo, suffix: str) -> bytes:
    buffer, values = io.BytesIO(), _channels(photo)
    extra = {name: value for name, value in (("icc_profile", photo.icc), ("exif", photo.exif)) if value}
    image = Image.fromarray(values)
    if suffix == ".png":
        image.save(buffer, "PNG", **extra)
    else:
        image.save(buffer, "TIFF", compression="tiff_adobe_deflate", **extra)
    return buffer.getvalue()


def _tiff(photo: Photo) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        _channels(photo),
        photometric="minisblack" if photo.grey else "rgb",
        extrasamples=["unassalpha"] if photo.alpha is not None else None,
        planarconfig="contig",
        compression="zlib",
        iccprofile=photo.icc,
        metadata=None,
    )
    return buffer.getvalue()
