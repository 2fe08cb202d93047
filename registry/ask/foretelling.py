"""What a question will ask the database, said before it is asked (ADR 0048)."""

from __future__ import annotations

from crosslight.runtime.db.foretold import Foretelling
from crosslight.runtime.db.seam import Foretold
from crosslight.standards.access import Face
from registry.ask.persons import MAX_PERSONS
from registry.ask.policy import TELLS_APART
from registry.ask.question import ANY, ByPatient, Patients, Question
from registry.identity.queries import IdentityReads
from registry.identity.statements import RECORDS
from registry.index.statements import foretell


def foretold(question: Question, face: Face, identity: IdentityReads) -> Foretold | None:
    """What is asked for all of a person by number, where nothing is odd; None: of other questions.

    Index and identity are in one database, as a submission changes both in one transaction.
    """
    said, apart = Foretelling(), face in TELLS_APART
    match question:
        case ByPatient(cursor="", filter=narrow) if not narrow.study_uids:
            if not identity.foretell(said, question.patient, MAX_PERSONS, apart=apart):
                return None
            counted = not question.versions and bool(question.limit or narrow != ANY)
            foretell(said, RECORDS, versions=question.versions, counted=counted)
        case Patients():
            limit = max(1, min(question.limit, MAX_PERSONS))
            if not identity.foretell(said, question.patient, limit, apart=apart):
                return None
        case _:
            return None
    return said.done()
