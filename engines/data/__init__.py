"""Data: readers, importing, few-shot draws, export. Imports no torch."""

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record, available_readers, find_reader
from engines.data.bin import empty_bin, remove_dataset, restore_dataset
from engines.data.description_files import read_descriptions
from engines.data.descriptions import DescriptionReport, import_descriptions, set_descriptions, write_descriptions
from engines.data.export import ExportFormat, ExportReport, export_dataset
from engines.data.images import load_image
from engines.data.importer import import_dataset
from engines.data.report import ImportReport, ImportRequest
from engines.data.samples import SAMPLES, SampleSet, import_sample
from engines.data.sampling import base_new_classes, draw_few_shot, effective_labels, few_shot
from engines.data.thumbnails import ensure_thumbnail, thumbnail_path

__all__ = [
    "SAMPLES",
    "DescriptionReport",
    "ExportFormat",
    "ExportReport",
    "ImportOptions",
    "ImportReport",
    "ImportRequest",
    "LeftOut",
    "Reader",
    "Reading",
    "Record",
    "SampleSet",
    "available_readers",
    "base_new_classes",
    "draw_few_shot",
    "effective_labels",
    "empty_bin",
    "ensure_thumbnail",
    "export_dataset",
    "few_shot",
    "find_reader",
    "import_dataset",
    "import_descriptions",
    "import_sample",
    "load_image",
    "read_descriptions",
    "remove_dataset",
    "restore_dataset",
    "set_descriptions",
    "thumbnail_path",
    "write_descriptions",
]
