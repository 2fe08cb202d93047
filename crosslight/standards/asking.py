"""Questions that name nobody, or very many: an action of its own, ``export`` (ADR 0037).

Pure. What each face can ask of that kind is said by whoever reads its questions.
"""

from __future__ import annotations

from typing import Final

from crosslight.standards.access import Face
from crosslight.standards.problem import Forbidden

#: Different numbers of one question beyond which it is about whoever there is: somebody counts through them.
MANY_NUMBERS: Final = 20
#: By which parameters a face names somebody, and the one that an error points at.
_NAMING: Final[dict[str, tuple[str, str]]] = {
    "fhir": ("patient, patient.identifier, accession, study-instance-uid or _id", "patient"),
    "dicomweb": ("PatientID, StudyInstanceUID or AccessionNumber", "PatientID"),
}
_ANY_FACE: Final = ("a patient or a study", "patient")


def export_refused(face: Face) -> Forbidden:
    """What whoever may not export is told, in the words of the face."""
    names, where = _NAMING.get(face, _ANY_FACE)
    return Forbidden(
        "This question names nobody, or very many: it would list whoever there is.",
        why="That is an export, which your role does not include.",
        todo=f"Add {names}; or ask the region's operator for a token that may export.",
        where=where,
    )
