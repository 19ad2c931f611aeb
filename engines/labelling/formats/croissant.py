"""Images in a ZIP file and a table of labels, described in Croissant 1.0 (MLCommons' JSON-LD for data sets)."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from engines.data.images import SUFFIXES
from engines.labelling.content import DECISION_FIELDS, Content, Picture
from engines.labelling.formats.tables import ABOUT, about, write_decisions, write_table
from engines.store.models import now

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    *("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "separator", "source", "subField", "transform", "equivalentProperty", "samplingRate"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_TYPES = {"decision": "sc:Integer", "time": "sc:DateTime", "seconds": "sc:Float"}
Node = dict[str, Any]


def write(folder: Path, content: Content) -> list[str]:
    kept = _write_images(folder, content)
    write_table(folder / "labels.csv", ["file_name", *ABOUT], ([p.file_name, *about(p)] for p in kept))
    tables = ["labels.csv", *write_decisions(folder, content)]
    text = json.dumps(describe(folder, content, kept, tables), indent=2, ensure_ascii=False)
    (folder / "croissant.json").write_text(text + "\n", "utf-8")
    return ["croissant.json", *tables]


def _write_images(folder: Path, content: Content) -> list[Picture]:
    loose = folder / "images"
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:

        def take(file: Path) -> None:
            archive.write(file, file.name)
            file.unlink()

        kept = content.written(content.labelled, lambda picture: loose / picture.file_name, take)
    shutil.rmtree(loose)
    return kept


def describe(folder: Path, content: Content, kept: list[Picture], tables: list[str]) -> Node:
    """The JSON-LD document about the files in `folder`."""
    readers = content.readers if content.decisions is not None else []
    files = [_file(folder, name, "text/csv") for name in tables]
    digest = files[0]["sha256"]  # a name of its own, since it lies nowhere yet
    document: Node = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": content.name,
        "description": content.description or f"{len(kept):,} labelled images of {len(content.classes)} classes.",
        "creator": [{"@type": "Person", "name": reader} for reader in readers]
        or {"@type": "Organization", "name": "not stated"},
        "license": "not stated",
        "url": f"urn:sha256:{digest}",
        "version": "1.0.0",
        "datePublished": f"{now():%Y-%m-%d}",
        "distribution": [
            *files,
            _file(folder, "images.zip", "application/zip"),
            {
                "@type": "cr:FileSet",
                "@id": "images",
                "name": "images",
                "containedIn": {"@id": "images.zip"},
                "encodingFormat": "image/*",
                "includes": sorted({f"*{Path(p.file_name).suffix}" for p in kept}) or [f"*{min(SUFFIXES)}"],
            },
        ],
        "recordSet": [_classes(content), _labels()],
    }
    if content.decisions is not None:
        fields = [_column("decisions", name, "decisions.csv", _TYPES.get(name, "sc:Text")) for name in DECISION_FIELDS]
        document["recordSet"].append(
            {"@type": "cr:RecordSet", "@id": "decisions", "name": "decisions", "field": fields}
        )
    return document


def _file(folder: Path, name: str, kind: str) -> Node:
    file = folder / name
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": kind,
        "sha256": digest,
    }


def _classes(content: Content) -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/name"},
        "field": [{"@type": "cr:Field", "@id": "classes/name", "name": "name", "dataType": "sc:Text"}],
        "data": [{"classes/name": name} for name in content.classes],
    }


def _labels() -> Node:
    columns = {name: _column("labels", name, "labels.csv") for name in ("file_name", *ABOUT)}
    # The images come first in this join: mlcroissant (1.1) reads the pixels of the side that refers to the other.
    columns["file_name"]["references"] = columns["file_name"]["source"]
    columns["file_name"]["source"] = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}}
    columns["label"]["references"] = {"field": {"@id": "classes/name"}}
    image = {
        "@type": "cr:Field",
        "@id": "labels/image",
        "name": "image",
        "dataType": "sc:ImageObject",
        "source": {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}},
    }
    return {"@type": "cr:RecordSet", "@id": "labels", "name": "labels", "field": [*columns.values(), image]}


def _column(record_set: str, name: str, file: str, kind: str = "sc:Text") -> Node:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "dataType": kind,
        "source": {"fileObject": {"@id": file}, "extract": {"column": name}},
    }
