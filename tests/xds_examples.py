"""A publication, and its way through XML and back."""

from __future__ import annotations

from crosslight.standards.ids import Oid, Version
from crosslight.standards.study import ManifestFacts, StudyRecord
from crosslight.standards.xds.model.metadata import (
    RegistryObjects,
)
from crosslight.standards.xds.model.publication import Publication, Source
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.wire import ebrim, ebrim_write

SECRET = b"s" * 32
NHS = "2.16.840.1.113883.2.1.4.1"
SOURCE = Source(
    code="RTK",
    name="Ashford & St Peter's <NHS>",
    repository_unique_id=Oid("1.2.3.1"),
    retrieve_location_uid=Oid("1.2.3.2"),
    authority=Oid("1.2.3.3"),
)
CX = "9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO"


def publication(record: StudyRecord, *, replaced: bool = False) -> Publication:
    return Publication.derived(
        source=SOURCE,
        secret=SECRET,
        version=Version(1, 7),
        record=record,
        manifest=ManifestFacts(
            document_uid="2.25.1", sha1="a" * 40, size_bytes=1234, creation_time="20240601101500"
        ),
        submission_time="20240601101501",
        replaces=Version(1, 6) if replaced else None,
    )


def through_xml(objects: RegistryObjects) -> RegistryObjects:
    return ebrim.parse_submit_objects(parse_untrusted_xml(ebrim_write.render_submit_objects(objects)))
