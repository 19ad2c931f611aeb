"""DICOM: pixels as a reading room shows them, and not a word about the patient."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.data import ImportReport, load_image
from engines.errors import DataError
from engines.store import Dataset, Sample, Workspace

pydicom = pytest.importorskip("pydicom")

BringIn = Callable[..., ImportReport]
Samples = Callable[[int], list[Sample]]
SECRETS = ("Meier", "Erika", "PAT-4711", "19500102", "ACC-99", "ward seven")


def scan(pixels: np.ndarray, **tags: Any) -> Any:
    """A data set around `pixels` ([H, W], [H, W, 3] or frames first), full of personal data."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    found.PatientName, found.PatientID, found.PatientBirthDate = "Meier^Erika", "PAT-4711", "19500102"
    found.AccessionNumber, found.PatientComments, found.StudyDate = "ACC-99", "ward seven", "20200304"
    colours = 3 if pixels.shape[-1] == 3 else 1
    found.SamplesPerPixel = colours
    found.PhotometricInterpretation = "RGB" if colours == 3 else "MONOCHROME2"
    if colours == 3:
        found.PlanarConfiguration = 0
    shape = pixels.shape[:-1] if colours == 3 else pixels.shape
    found.Rows, found.Columns = shape[-2:]
    if len(shape) == 3:
        found.NumberOfFrames = shape[0]
    bits = pixels.dtype.itemsize * 8
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, bits, bits - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def encode(found: Any) -> bytes:
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def put(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(found))


def noise(seed: int, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def grey(found: Any) -> np.ndarray:
    image = np.asarray(load_image(encode(found))).astype(int)
    assert np.array_equal(image[..., 0], image[..., 2])
    return image[..., 0]


class TestPixels:
    RAMP = np.arange(-1000, 1048, 8, dtype=np.int16).reshape(16, 16)

    def test_window_in_hounsfield_units(self) -> None:
        stored = self.RAMP + 1024
        found = grey(scan(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400))
        expected = np.clip((self.RAMP - (40 - 200)) / 400 * 255, 0, 255)
        assert np.abs(found - expected).max() <= 2
        assert (found[0, 0], found[-1, -1]) == (0, 255)

    def test_several_windows_use_the_first(self) -> None:
        one = grey(scan(self.RAMP, WindowCenter=40, WindowWidth=400))
        assert np.array_equal(one, grey(scan(self.RAMP, WindowCenter=[40, 600], WindowWidth=[400, 90])))

    def test_without_a_window_values_are_stretched(self) -> None:
        found = grey(scan(self.RAMP))
        assert (found.min(), found.max()) == (0, 255)
        assert np.all(np.diff(found.ravel()) >= 0)

    def test_padding_does_not_darken_the_rest(self) -> None:
        padded = self.RAMP.copy()
        padded[:4] = -32768
        found = grey(scan(padded, PixelPaddingValue=-32768))
        assert found[:4].max() == 0
        assert np.ptp(found[4:]) == 255

    def test_monochrome1_is_inverted(self) -> None:
        plain, inverted = scan(self.RAMP), scan(self.RAMP, PhotometricInterpretation="MONOCHROME1")
        assert np.array_equal(grey(plain), 255 - grey(inverted))

    def test_colours(self) -> None:
        pixels = noise(1, (6, 5, 3))
        assert np.array_equal(np.asarray(load_image(encode(scan(pixels)))), pixels)

    def test_ybr(self) -> None:
        from PIL import Image

        pixels = np.full((4, 4, 3), (200, 40, 90), np.uint8)
        stored = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
        found = np.asarray(load_image(encode(scan(stored, PhotometricInterpretation="YBR_FULL")))).astype(int)
        assert np.abs(found - pixels).max() <= 3

    def test_palette(self) -> None:
        from pydicom.dataset import Dataset as Tags

        shades = np.arange(256, dtype=np.uint16)
        table = Tags()
        for name, values in (("Red", shades << 8), ("Green", (255 - shades) << 8), ("Blue", np.zeros(256, np.uint16))):
            setattr(table, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(table, f"{name}PaletteColorLookupTableData", values.astype(np.uint16).tobytes())
        found = scan(noise(2), PhotometricInterpretation="PALETTE COLOR")
        found.update(table)
        image = np.asarray(load_image(encode(found)))
        assert np.array_equal(image[..., 0], noise(2))
        assert np.array_equal(image[..., 1], 255 - noise(2))
        assert image[..., 2].max() == 0

    def test_frames(self) -> None:
        pixels = noise(3, (4, 8, 8))
        data = encode(scan(pixels, WindowCenter=128, WindowWidth=256))
        frames = [np.asarray(load_image(data, frame))[..., 0].astype(int) for frame in range(4)]
        assert all(np.abs(frame - stored).max() <= 1 for frame, stored in zip(frames, pixels, strict=True))
        for wrong in (4, -1):
            with pytest.raises(DataError, match="fewer frames"):
                load_image(data, wrong)

    def test_run_length_encoding(self) -> None:
        from pydicom.uid import RLELossless

        plain = scan(self.RAMP)
        packed = scan(self.RAMP)
        packed.compress(RLELossless)
        assert np.array_equal(grey(plain), grey(packed))

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda f: setattr(f, "PixelData", f.PixelData[:100]), "cut off|damaged"),
            (lambda f: f.__delattr__("PixelData"), "without an image in it"),
            (lambda f: f.__delattr__("Rows"), "damaged"),
            (lambda f: f.__delattr__("BitsAllocated"), "damaged"),
            (lambda f: setattr(f, "Rows", 0), "empty"),
            (lambda f: (setattr(f, "Rows", 60_000), setattr(f, "Columns", 60_000)), "more than 100 million pixels"),
            (lambda f: setattr(f, "PhotometricInterpretation", "NONSENSE"), "damaged"),
        ],
    )
    def test_damage(self, spoil: Callable[[Any], None], reason: str) -> None:
        found = scan(self.RAMP)
        spoil(found)
        with pytest.raises(DataError, match=reason) as caught:
            load_image(encode(found))
        assert not any(secret in f"{caught.value} {caught.value.detail}" for secret in SECRETS)

    def test_a_compression_nobody_here_knows(self) -> None:
        found = scan(self.RAMP)
        data = encode(found).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
        with pytest.raises(DataError, match="cannot be used"):
            load_image(data)
        jpeg_ls = scan(self.RAMP)
        jpeg_ls.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        jpeg_ls.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        jpeg_ls["PixelData"].is_undefined_length = True
        with pytest.raises(
            DataError, match="compressed as JPEG-LS Lossless Image Compression, which cannot be decoded"
        ):
            load_image(encode(jpeg_ls))


class TestFolders:
    def test_classes_patients_and_frames(self, tmp_path: Path, bring_in: BringIn, samples: Samples) -> None:
        root = tmp_path / "scans"
        put(root / "healthy/a.dcm", scan(noise(1), PatientID="A"))
        put(root / "healthy/b", scan(noise(2), PatientID="B"))
        put(root / "ill/c.dcm", scan(noise(3, (3, 8, 8)), PatientID="A"))
        put(root / "ill/d.IMA", scan(noise(4), PatientID="C"))
        (root / "DICOMDIR").write_bytes(b"an index")
        report = bring_in(root, split="as-is")
        assert report.reader == "dicom"
        assert report.counts == {"healthy": {"train": 2}, "ill": {"train": 4}}
        found = samples(report.dataset_id)
        assert [(s.name, s.group) for s in found] == [
            ("image 1", "patient 1"),
            ("image 2", "patient 2"),
            ("image 3, frame 1", "patient 1"),
            ("image 3, frame 2", "patient 1"),
            ("image 3, frame 3", "patient 1"),
            ("image 4", "patient 3"),
        ]

    @pytest.mark.parametrize(("which", "names"), [("first", ["image 1"]), ("middle", ["image 1"])])
    def test_one_frame_each(
        self, which: str, names: list[str], tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        pixels = noise(5, (5, 8, 8))
        put(tmp_path / "scans/a.dcm", scan(pixels, WindowCenter=128, WindowWidth=256))
        found = samples(bring_in(tmp_path / "scans", frames=which).dataset_id)
        assert [s.name for s in found] == names
        stored = np.asarray(load_image(workspace.resolve(found[0].file)))[..., 0].astype(int)
        assert np.abs(stored - pixels[0 if which == "first" else 2]).max() <= 1

    def test_a_window_of_ones_own(
        self, tmp_path: Path, bring_in: BringIn, samples: Samples, workspace: Workspace
    ) -> None:
        put(tmp_path / "scans/a.dcm", scan(TestPixels.RAMP, WindowCenter=0, WindowWidth=2000))
        report = bring_in(tmp_path / "scans", window_center=40.0, window_width=80.0)
        pixels = np.asarray(load_image(workspace.resolve(samples(report.dataset_id)[0].file)))[..., 0]
        assert np.array_equal(pixels == 0, TestPixels.RAMP <= 0)
        assert np.array_equal(pixels == 255, TestPixels.RAMP >= 80)

    def test_what_is_no_image_is_reported_by_number(self, tmp_path: Path, bring_in: BringIn) -> None:
        root = tmp_path / "scans"
        put(root / "Meier_1.dcm", scan(noise(1)))
        report_file = scan(noise(2))
        del report_file.PixelData
        put(root / "Meier_2.dcm", report_file)
        (root / "Meier_3.dcm").write_bytes(b"hello")
        (root / "Meier_4.txt").write_bytes(b"hello")
        (root / "Meier_5.dcm").write_bytes(encode(scan(noise(6)))[:-30])
        (root / "Meier_6.dcm").symlink_to("/etc/passwd")
        report = bring_in(root)
        assert report.imported == 1
        assert report.seen == 6
        assert {one.file for one in report.left_out} == {f"file {n}" for n in range(2, 7)}
        assert report.reasons["not a DICOM file"] == 2
        assert report.reasons["a DICOM file without an image in it"] == 1
        assert report.reasons["a link that leads out of the folder"] == 1

    @pytest.mark.parametrize("folder", ["Meier^Erika", "PAT-4711", "pat_4711", "Erika 1950-01-02 19500102", "ACC-99"])
    def test_folders_named_after_patients_are_no_classes(self, folder: str, tmp_path: Path, bring_in: BringIn) -> None:
        put(tmp_path / f"scans/{folder}/a.dcm", scan(noise(1)))
        put(tmp_path / "scans/other/a.dcm", scan(noise(2)))
        report = bring_in(tmp_path / "scans")
        assert report.counts == {"(no label)": {"pool": 2}}
        assert "The folders are named after patients or studies" in report.warnings[0]

    def test_nothing_of_the_patient_is_kept_or_shown(
        self,
        tmp_path: Path,
        bring_in: BringIn,
        workspace: Workspace,
        samples: Samples,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        root = tmp_path / "Meier^Erika"
        put(root / "PAT-4711_1.dcm", scan(noise(1), BurnedInAnnotation="YES"))
        put(root / "PAT-4711_2.dcm", scan(noise(2)))
        broken = scan(noise(3))
        broken.PixelData = broken.PixelData[:10]
        put(root / "PAT-4711_3.dcm", broken)
        report = bring_in(root)
        assert report.name == "DICOM images"
        assert "Files that say that text is burned into their pixels: 1." in " ".join(report.warnings)
        with workspace.session() as session:
            dataset = session.get_one(Dataset, report.dataset_id)
            kept = [dataset.name, dataset.source, json.dumps(dataset.report)]
        kept += [f"{s.name} {s.file} {s.group} {s.domain}" for s in samples(report.dataset_id)]
        output = capfd.readouterr()
        said = " ".join([*kept, output.out, output.err, report.model_dump_json()])
        assert not any(secret in said for secret in SECRETS)
        workspace.close()
        for file in workspace.path.rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert not any(secret.encode() in content for secret in SECRETS), file.name

    @pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "VOLUME"])
    def test_photographs_of_a_slides_label_stay_out(self, kind: str, tmp_path: Path, bring_in: BringIn) -> None:
        slide = scan(noise(1, (9, 7, 3)), ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])
        slide.SOPClassUID = slide.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        put(tmp_path / "scans/a.dcm", slide)
        put(tmp_path / "scans/b.dcm", scan(noise(2), ImageType=["DERIVED", "PRIMARY", "LABEL"]))
        report = bring_in(tmp_path / "scans")
        assert report.imported == (2 if kind == "VOLUME" else 1)
        assert report.reasons == (
            {} if kind == "VOLUME" else {"a photograph of a slide’s label, which may name a patient": 1}
        )

    def test_train_and_test_folders(self, tmp_path: Path, bring_in: BringIn) -> None:
        for number, folder in enumerate(("train/ill", "train/well", "test/ill", "test/well")):
            put(tmp_path / f"scans/{folder}/{number}.dcm", scan(noise(number)))
        report = bring_in(tmp_path / "scans")
        assert report.counts == {"ill": {"train": 1, "test": 1}, "well": {"train": 1, "test": 1}}

    def test_a_single_file(self, tmp_path: Path, bring_in: BringIn) -> None:
        put(tmp_path / "one", scan(noise(1, (2, 8, 8))))
        report = bring_in(tmp_path / "one")
        assert report.counts == {"(no label)": {"pool": 2}}
