"""Folders of DICOM files. Names, numbers and dates of patients and studies are neither kept nor shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from engines.data import dicom
from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.depth import Window
from engines.data.images import DICOM_SUFFIXES, SUFFIXES, Undecodable, read_file
from engines.data.listing import Entry, list_files
from engines.data.trees import OUTSIDE_SPLITS, infer_layout, is_beside
from engines.errors import DataError

PEEKED = 400
"""Files looked at to tell whether a folder is one of DICOM files."""
IDENTIFYING = [
    *("PatientID", "OtherPatientIDs", "PatientName", "PatientBirthDate", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID"),
]
NAMELESS = "DICOM images"
LABEL = "a photograph of a slide’s label, which may name a patient"
SLIDE_PHOTOGRAPHS = {"LABEL", "OVERVIEW"}
"""Kinds of images in DICOM slides on which the paper label is seen."""


class DicomReader(Reader):
    """DICOM files, with one sub-folder per class or without; the pixels are copied into the workspace as PNG.

    The model sees them through their window; for the reader all grey levels are kept beside that picture.
    Images are called “image 12” and patients “patient 3”, in the order of the files: file names, dates and numbers
    may identify a person. Folders that are named after a patient or a study are not taken for classes. Images of one
    patient are never torn apart between training and testing.
    """

    name = "dicom"
    title = "Folder of DICOM files"
    rank = 40

    def accepts(self, source: Path) -> bool:
        if source.is_file():
            return source.suffix.lower() in DICOM_SUFFIXES or has_mark(source)
        found = list(islice((p for p in source.rglob("*") if p.is_file()), PEEKED))
        images = sum(p.suffix.lower() in SUFFIXES for p in found)
        medical = sum(p.suffix.lower() in DICOM_SUFFIXES or (not p.suffix and has_mark(p)) for p in found)
        return medical > images

    def read(self, source: Path, options: ImportOptions) -> Reading:
        dicom.pydicom()
        window = _window(options)
        if source.is_file():
            entries, refused = [Entry((source.name,), source)], list[LeftOut]()
        else:
            entries, refused = list_files(source)
        entries = [entry for entry in entries if not is_beside(entry) and entry.parts[-1].upper() != "DICOMDIR"]
        warnings: list[str] = []
        if _named_after_patient(entries, source):
            entries = [Entry((entry.parts[-1],), entry.handle) for entry in entries]
            warnings.append("The folders are named after patients or studies, so they were not taken for classes.")
        records = _records(entries, [one.reason for one in refused], options, window, warnings)
        named = _identifies(source.name, _tags(entries[0].handle)) if entries else False
        return Reading(
            records, len(entries) + len(refused), warnings=warnings, name=NAMELESS if named else "", private=True
        )


def has_mark(file: Path) -> bool:
    """Whether a file bears DICOM's mark behind its preamble."""
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _tags(file: Path) -> list[str]:
    """Values that identify a person or a study, reduced to letters and digits."""
    try:
        found = dicom.pydicom().dcmread(file, force=True, stop_before_pixels=True, specific_tags=IDENTIFYING)
        values = [_plain(str(found.get(tag, ""))) for tag in IDENTIFYING]
    except Exception:  # a damaged file says nothing of anybody; it is reported when it is read
        return []
    return [value for value in values if len(value) > 2]


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def _identifies(folder: str, tags: Sequence[str]) -> bool:
    plain = _plain(folder)
    return any(tag == plain or (len(tag) > 3 and tag in plain) for tag in tags)


def _named_after_patient(entries: Sequence[Entry], source: Path) -> bool:
    """Whether any class folder bears a value of the tags of its first file."""
    layout = infer_layout([entry.parts for entry in entries], source.name)
    first: dict[str, Path] = {}
    for entry in entries:
        _, label = layout.place(entry.parts)
        if label:
            first.setdefault(label, entry.handle)
    return any(_identifies(label, _tags(file)) for label, file in first.items())


def _records(
    entries: Sequence[Entry],
    refused: Sequence[str],
    options: ImportOptions,
    window: Window | None,
    warnings: list[str],
) -> Iterator[Record | LeftOut]:
    layout = infer_layout([entry.parts for entry in entries])
    patients: dict[str, str] = {}
    burned = 0
    for number, entry in enumerate(entries, 1):
        split, label = layout.place(entry.parts)
        if split == "":
            yield LeftOut(f"file {number}", OUTSIDE_SPLITS)
            continue
        try:
            found = dicom.parse(read_file(entry.handle), entry.suffix in DICOM_SUFFIXES or not entry.suffix)
            if _shows_label(found):
                raise Undecodable(LABEL)
            chosen = _chosen(dicom.frame_count(found, options.max_pixels), options.frames)
            burned += found.get("BurnedInAnnotation") == "YES"
            group = _patient(found, patients) or (f"file {number}" if len(chosen) > 1 else "")
            for index, frame in zip(chosen, dicom.frames(found, chosen), strict=False):
                name = f"image {number}" + (f", frame {index + 1}" if len(chosen) > 1 else "")
                yield Record(name, frame.picture(window), label, split, group=group, depth=frame.depth(window))
        except Undecodable as error:
            yield LeftOut(f"file {number}", error.reason)
    yield from (LeftOut(f"file {len(entries) + place}", reason) for place, reason in enumerate(refused, 1))
    if burned:
        warnings.append(
            f"Files that say that text is burned into their pixels: {burned:,}. Look for names before you share images."
        )


def _shows_label(found: Any) -> bool:
    kinds = found.get("ImageType") or []
    slide = found.get("SOPClassUID") == dicom.pydicom().uid.VLWholeSlideMicroscopyImageStorage
    return bool(slide and SLIDE_PHOTOGRAPHS & {str(kind).upper() for kind in kinds})


def _chosen(count: int, which: str) -> list[int]:
    return list(range(count)) if which == "all" else [count // 2 if which == "middle" else 0]


def _window(options: ImportOptions) -> Window | None:
    if (options.window_center is None) != (options.window_width is None):
        raise DataError("A window needs a centre and a width.", "Set both, or neither, in the options.")
    if options.window_center is None or options.window_width is None:
        return None
    return Window(name="As imported", centre=options.window_center, width=options.window_width)


def _patient(found: Any, patients: dict[str, str]) -> str:
    """A running number in place of the patient (or of the study, where the patient is not named)."""
    identity = str(found.get("PatientID") or found.get("StudyInstanceUID") or "")
    return patients.setdefault(identity, f"patient {len(patients) + 1}") if identity else ""
