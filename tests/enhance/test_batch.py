"""Photos by several methods into a folder: through the functions that jobs call, with forty kinds of bad input."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from engines.enhance.batch import enhance_batch
from engines.enhance.checkpoint import write_tensors
from engines.enhance.choices import CLASSICAL, choices, find_choice, photos_in
from engines.enhance.enhancer import ClipLitEnhancer
from engines.enhance.groups import group_folder, new_group, read_group
from engines.enhance.looking import look
from engines.enhance.network import LightMapNet
from engines.enhance.own import add_enhancer
from engines.enhance.requests import AddRequest, EnhanceRequest, LookRequest
from engines.errors import BackboneError, ConfigError, DataError, PromptloupeError
from engines.store import Workspace


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path_factory.mktemp("backlit") / "clinic")
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the public layout that brightens a little."""
    net = LightMapNet()
    net.cond_add1.bias.data.fill_(0.6)
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    write_tensors(path, {f"module.{name}": value for name, value in net.state_dict().items()})
    return path


def backlit(size: tuple[int, int] = (48, 32)) -> Image.Image:
    width, height = size
    values = np.full((height, width, 3), 230, np.uint8)
    values[height // 3 :, width // 4 :] = np.random.default_rng(0).integers(5, 40, 3, np.uint8)
    return Image.fromarray(values)


def jpeg(size: tuple[int, int] = (64, 64)) -> bytes:
    stream = io.BytesIO()
    backlit(size).save(stream, "JPEG")
    return stream.getvalue()


def run(ws: Workspace, out: Path, photos: list[Path], **options: Any) -> dict[str, Any]:
    asked = {"photos": [str(p) for p in photos], "methods": ["auto-gamma"], "out": str(out)} | options
    return enhance_batch(ws, EnhanceRequest(**asked), lambda share, words: None, lambda: None)


def test_every_method_into_a_folder_of_its_own(ws: Workspace, tmp_path: Path, network: Path) -> None:
    backlit().save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    added = add_enhancer(ws, AddRequest(file=str(network), name="Camera 2"))
    names = [each.name for each in CLASSICAL] + [added.name]
    told: list[float] = []
    request = EnhanceRequest(photos=[str(tmp_path)], methods=names, out="exports/all")
    found = enhance_batch(ws, request, lambda share, words: told.append(share), lambda: None)
    assert found["done"] == len(names)
    assert told == [place / len(names) for place in range(len(names))]
    for result in found["results"]:
        file = Path(found["folder"]) / result["output"]
        card = json.loads(file.with_suffix(".json").read_text())
        assert card["recipe"]["method"] == result["method"]
        assert card["after"]["luminance"] > card["before"]["luminance"]
        assert card["lightness_order_error"] >= 0
    assert "light_map_side" in card["recipe"]
    assert len(card["recipe"]["weights_sha256"]) == 64
    assert (tmp_path / "a.png").read_bytes() == before
    assert (ws.folder("exports") / "all" / "Camera 2" / "a.png").is_file()


def test_strength_and_tiff_and_a_reference(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "truth").mkdir()
    backlit().save(tmp_path / "in" / "a.png")
    backlit().save(tmp_path / "truth" / "a.bmp")
    asked = {"strength": 0.0, "kind": "tif", "reference": str(tmp_path / "truth")}
    found = run(ws, tmp_path / "out", [tmp_path / "in"], **asked)
    assert found["results"][0]["output"] == "a.tif"
    with Image.open(tmp_path / "out" / "a.tif") as image:
        assert image.tobytes() == backlit().tobytes()
    card = json.loads((tmp_path / "out" / "a.json").read_text())
    assert card["reference"]["after"] == {"psnr": None, "ssim": pytest.approx(1)}
    half = run(ws, tmp_path / "half", [tmp_path / "in"], strength=0.5)["results"][0]["output"]
    with Image.open(tmp_path / "half" / half) as image:
        middle = np.asarray(image, float).mean()
    whole = run(ws, tmp_path / "whole", [tmp_path / "in"])["results"][0]["output"]
    with Image.open(tmp_path / "whole" / whole) as image:
        assert np.asarray(backlit(), float).mean() < middle < np.asarray(image, float).mean()


def dicom(path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    image = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.Rows = image.Columns = 24
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = np.arange(576, dtype=np.uint16).tobytes()
    image.save_as(path, enforce_file_format=True)


def test_measurements_need_a_confirmation(ws: Workspace, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", np.full((24, 24), 9_000, np.uint16))
    dicom(tmp_path / "scan.dcm")
    with pytest.raises(DataError, match=r"measurements\. Confirm"):
        run(ws, tmp_path / "out", [tmp_path])
    assert not (tmp_path / "out").exists()
    found = run(ws, tmp_path / "out", [tmp_path], measurements=True)
    assert [each["output"] for each in found["results"]] == ["deep.tif", "scan.png"]
    assert tifffile.imread(tmp_path / "out" / "deep.tif").dtype == np.uint16
    assert "no measurement now" in found["results"][1]["notes"][0]
    group = new_group(ws, [tmp_path / "scan.dcm"])
    asked = {"group": group.id, "place": 0, "methods": [], "numbers": False}
    assert "measurements" in look(ws, LookRequest(**asked))["consent"]
    assert look(ws, LookRequest(**asked, measurements=True))["width"] == 24


def test_a_look_is_kept_and_lossless(ws: Workspace, tmp_path: Path, network: Path) -> None:
    backlit().save(tmp_path / "a.png")
    group = new_group(ws, [tmp_path / "a.png"], copy=True)
    request = LookRequest(group=group.id, place=0, methods=["clahe", str(network)], strength=0.7)
    found = look(ws, request)
    photo, clahe, own = found["views"]
    with Image.open(photo["picture"]) as image:
        assert image.tobytes() == backlit().tobytes()
    assert photo["numbers"]["order"] == 0 != clahe["numbers"]["order"]
    assert 0 < own["numbers"]["well_lit"] < 1
    assert sum(own["histogram"]) == pytest.approx(1)
    assert own["darkest"] <= own["brightest"]
    assert Path(own["light"]).is_file()
    assert "light" not in clahe
    stamp = Path(own["picture"]).stat().st_mtime_ns
    assert look(ws, request) == found
    assert Path(own["picture"]).stat().st_mtime_ns == stamp


def test_a_look_measures_against_a_reference(ws: Workspace, tmp_path: Path) -> None:
    for name in ("in", "truth"):
        (tmp_path / name).mkdir()
        backlit().save(tmp_path / name / "a.png")
    backlit().save(tmp_path / "in" / "b.png")
    backlit((20, 20)).save(tmp_path / "truth" / "c.png")
    backlit().save(tmp_path / "in" / "c.png")
    group = new_group(ws, photos_in(tmp_path / "in"))
    asked = {"group": group.id, "methods": ["clahe"], "numbers": False, "reference": str(tmp_path / "truth")}
    photo, clahe = look(ws, LookRequest(place=0, **asked))["views"]
    assert (photo["numbers"]["psnr"], photo["numbers"]["ssim"]) == (None, pytest.approx(1))
    assert 5 < clahe["numbers"]["psnr"] < 40
    assert "no reference called “b”" in look(ws, LookRequest(place=1, **asked))["notes"][0]
    assert "another size" in look(ws, LookRequest(place=2, **asked))["notes"][0]


def test_native_light_maps_tell_how_far_the_usual_ones_are(
    ws: Workspace, tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlit().save(tmp_path / "a.png")
    asked = {"methods": [str(network)], "native": True}
    assert (
        run(ws, tmp_path / "small", [tmp_path / "a.png"], **asked)["results"][0]["decibels"] is None
    )  # no smaller copy

    def flat(_: ClipLitEnhancer, pixels: np.ndarray, side: int | None = 768) -> np.ndarray:
        return np.full(pixels.shape[:2], 0.95 if side is None else 1.0, np.float32)

    monkeypatch.setattr(ClipLitEnhancer, "light_map", flat)
    found = run(ws, tmp_path / "large", [tmp_path / "a.png"], **asked)["results"][0]["decibels"]
    apart = np.asarray(backlit()) / 255 * (1 / 0.95 - 1)
    assert found == pytest.approx(-10 * np.log10(np.square(apart).mean()), rel=1e-3)
    card = json.loads((tmp_path / "large" / "a.json").read_text())
    assert card["recipe"]["light_map_side"] == "native"


def test_what_is_not_there_is_told(ws: Workspace, tmp_path: Path) -> None:
    backlit().save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Callable[[], object], type[PromptloupeError], str]] = [
        (lambda: run(ws, tmp_path / "o", [tmp_path / "gone.png"]), DataError, "no file or folder “gone.png”"),
        (lambda: run(ws, tmp_path / "o", [tmp_path / "empty"]), DataError, "no photos directly in the folder “empty”"),
        (lambda: run(ws, tmp_path, [tmp_path / "a.png"]), ConfigError, "where the originals are"),
        (lambda: run(ws, tmp_path / "o", [tmp_path], methods=["magic"]), ConfigError, "called “magic”"),
        (lambda: run(ws, tmp_path / "o", [tmp_path], methods=["gone.pth"]), BackboneError, "no file “gone.pth”"),
        (lambda: run(ws, tmp_path / "o", [tmp_path], reference=str(tmp_path / "x")), DataError, "no folder “x”"),
        (lambda: add_enhancer(ws, AddRequest(file=str(tmp_path / "a.png"))), BackboneError, "cannot be read"),
        (lambda: photos_in(tmp_path / "gone"), DataError, "cannot be opened"),
        (lambda: find_choice(ws, ""), ConfigError, "There are: auto-gamma"),
        (lambda: look(ws, LookRequest(group="0" * 12, place=0, methods=[])), DataError, "no longer here"),
        (lambda: read_group(ws, "../../x"), DataError, "no longer here"),
        (lambda: new_group(ws, [tmp_path / "gone.png"], copy=True), DataError, "could not be kept"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png() -> bytes:
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    stream, frames = io.BytesIO(), [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime")]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    backlit().convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def deep_tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


HEIC = struct.pack(">I", 24) + b"ftypheic" + b"\0" * 40
PNG, BMP, WEBP, TIFF = (encoded(kind) for kind in ("PNG", "BMP", "WEBP", "TIFF"))
BAD: list[tuple[str, bytes, str]] = [
    ("truncated.jpg", jpeg()[:-200], "cut off"),
    ("half.jpg", jpeg()[:300], "cut off|damaged|not a PNG"),
    ("empty.jpg", b"", "empty"),
    ("text.jpg", b"Dear colleague, the photo follows.", "not a PNG"),
    ("page.png", b"<html><img src=x></html>", "not a PNG"),
    ("script.svg.png", b"<svg onload='alert(1)'/>", "not a PNG"),
    ("huge.png", huge_png(), "pixels"),
    ("moving.gif", animated("GIF"), "GIF"),
    ("still.gif", encoded("GIF", "P"), "GIF"),
    ("moving.png", animated("PNG"), "animation"),
    ("moving.webp", animated("WEBP"), "animation"),
    ("phone.heic", HEIC, "HEIC"),
    ("phone.jpg", HEIC, "HEIC"),
    ("phone.avif", HEIC.replace(b"heic", b"avif"), "HEIC or AVIF"),
    ("truncated.png", PNG[:-60], "cut off|damaged"),
    ("signature.png", PNG[:8], "damaged|cut off|not a PNG"),
    ("noheader.png", PNG[:8] + PNG[33:], "damaged|cut off|not a PNG"),
    ("checksum.png", PNG[:50] + bytes([PNG[50] ^ 255]) + PNG[51:], "damaged|cut off"),
    ("noend.webp", WEBP[: len(WEBP) // 2], "damaged|cut off|not a PNG"),
    ("riff.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "damaged|cut off|not a PNG"),
    ("truncated.bmp", BMP[: len(BMP) // 2], "damaged|cut off|not a PNG"),
    ("head.bmp", b"BM" + b"\0" * 60, "damaged|cut off|not a PNG"),
    ("truncated.tif", TIFF[: len(TIFF) // 2], "TIFF|damaged|cut off"),
    ("order.tif", b"II*\0" + b"\xff" * 40, "TIFF|damaged"),
    ("big.tif", b"II+\0" + b"\xff" * 40, "TIFF|damaged"),
    ("loop.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "TIFF|damaged|not a PNG"),
    ("floats.tif", deep_tiff(np.ones((9, 9), np.float32)), "whole numbers|kind of pixels|TIFF"),
    ("five.tif", deep_tiff(np.ones((9, 9, 5), np.uint16), planarconfig="contig", photometric="minisblack"), "channels"),
    ("movie.mp4.jpg", b"\0\0\0\x18ftypmp42" + b"\0" * 30, "not a PNG"),
    ("paper.pdf.jpg", b"%PDF-1.7\n", "not a PNG"),
    ("archive.jpg", b"PK\x03\x04" + b"\0" * 40, "not a PNG"),
    ("program.jpg", b"MZ" + b"\0" * 80, "not a PNG"),
    ("drawing.ps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
    ("old.pcx.png", b"\n\x05\x01\x08" + b"\0" * 124, "not a PNG"),
    ("icon.ico.png", b"\0\0\1\0\1\0" + b"\0" * 40, "not a PNG"),
    ("jpeg2000.jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 20, "not a PNG"),
    ("zeros.jpg", b"\0" * 1000, "not a PNG"),
    ("noise.jpg", bytes(np.random.default_rng(1).integers(0, 255, 1000, np.uint8)), "not a PNG"),
    ("scan.dcm", b"\0" * 128 + b"DICM" + b"\0" * 40, "measurements"),
    ("notscan.dcm", b"hello", "measurements"),
]


def test_forty_bad_files_are_told_and_the_good_one_is_done(ws: Workspace, tmp_path: Path) -> None:
    assert len(BAD) == 40
    place = tmp_path / "in"
    place.mkdir()
    for name, content, _ in BAD:
        (place / name).write_bytes(content)
    backlit().save(place / "zzz good.png")
    found = run(ws, tmp_path / "out", [place / name for name, _, _ in BAD] + [place / "zzz good.png"])
    assert found["done"] == 1
    told = {each["source"]: each["problem"] for each in found["results"]}
    for name, _, words in BAD:
        assert re.search(words, told[name]), (name, told[name])
        assert f"“{name}”" in told[name]
        assert str(tmp_path) not in told[name]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".png"] == ["zzz good.png"]
    confirmed = run(ws, tmp_path / "confirmed", [place], measurements=True)
    assert confirmed["done"] == 1  # a confirmation opens nothing that is damaged


@pytest.mark.skipif(os.name != "posix", reason="permissions and pipes as POSIX has them")
def test_pipes_folders_and_closed_files(ws: Workspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    backlit().save(tmp_path / "good.png")
    found = run(ws, tmp_path / "out", [tmp_path])
    told = {each["source"]: each["problem"] for each in found["results"]}
    assert "not a file" in told["pipe.png"] or "cannot be opened" in told["pipe.png"]
    assert "does not exist" in told["dangling.png"]
    assert told["good.png"] == ""


def test_read_only_folder_and_full_disk(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backlit().save(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="folder cannot be written"):
        run(ws, tmp_path / "file" / "out", [tmp_path / "a.png"])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="disk is full"):
        run(ws, tmp_path / "out", [tmp_path / "a.png"])
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(DataError, match="disk is full"):
        look(ws, LookRequest(group=new_group(ws, [tmp_path / "a.png"]).id, place=0, methods=[], numbers=False))


def test_photos_that_nobody_opens_any_more_are_forgotten(ws: Workspace, tmp_path: Path) -> None:
    backlit().save(tmp_path / "a.png")
    old, opened = (new_group(ws, [tmp_path / "a.png"], copy=True) for _ in range(2))
    long_ago = time.time() - 31 * 24 * 3600
    for group in (old, opened):
        os.utime(group_folder(ws, group.id) / "photos.json", (long_ago, long_ago))
    read_group(ws, opened.id)
    new_group(ws, [tmp_path / "a.png"])
    assert read_group(ws, opened.id).photos[0].is_file()
    with pytest.raises(DataError, match="no longer here"):
        read_group(ws, old.id)
    assert not old.photos[0].exists()
    assert (tmp_path / "a.png").exists()


def test_only_usable_methods_are_offered(ws: Workspace) -> None:
    (ws.folder("media") / "enhancers" / "nothing in it").mkdir(parents=True)
    assert "nothing in it" not in [each.name for each in choices(ws)]
    assert [each.name for each in choices(ws)][:4] == [each.name for each in CLASSICAL]
