"""Which documents are imaging, and of which studies they say they are (RAD TF-3 4.68; ITI TF-3 4.2.3.2.28).

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.standards.ids import CXI_STUDY_UID, is_uid
from crosslight.standards.xds.mapping import values
from crosslight.standards.xds.mapping.references import identifiers_of, study_uid_of
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import DocumentEntry


@dataclass(frozen=True, slots=True)
class ImagingDocument:
    """What an entry says of the imaging behind it.

    Attributes:
        studies: The StudyInstanceUIDs that it names, sorted; none where it does not say.
        readable: Whether its bytes may be a manifest, which tells.
    """

    studies: tuple[str, ...]
    readable: bool


def is_key_object(entry: DocumentEntry) -> bool:
    """Whether an entry is a Key Object Selection document by its format.

    Its title, which only the bytes have, says more.
    """
    return (
        entry.object_type == v.STABLE
        and entry.format_code is not None
        and entry.format_code.value == values.KOS_FORMAT.value
    )


def is_manifest(entry: DocumentEntry) -> bool:
    """Whether an entry is registered as a study's manifest: KOS by its format, naming one study."""
    return is_key_object(entry) and study_uid_of(entry.reference_ids) != ""


def imaging_of(entry: DocumentEntry) -> ImagingDocument | None:
    """What an entry that is stored whole says of imaging: a DICOM document, or any that names a study.

    None for others.
    """
    named = sorted({i.value.strip() for i in identifiers_of(entry.reference_ids, CXI_STUDY_UID)})
    studies = tuple(uid for uid in named if is_uid(uid))
    if not studies and not is_key_object(entry) and entry.mime_type != values.MANIFEST_MIME:
        return None
    return ImagingDocument(studies, readable=is_key_object(entry) and len(studies) != 1)
