"""XDS error codes (ITI TF-3 Table 4.2.4.1-2, XDS-I.b, metadata update) and how our own errors become them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.problem import CrosslightError, OurError, PeerError, StorageError

Severity = Literal["Error", "Warning"]

#: code -> what it means. Transactions: P = ITI-41, R = 42, SQ = 18, RS = 43, U = 57, D = 62, I = RAD-69.
CODES: dict[str, str] = {
    "XDSUnknownPatientId": "P R: the patient id is not known to the receiver",
    "XDSPatientIdDoesNotMatch": "P R: an id that must match another does not",
    "XDSRegistryMetadataError": "P R: metadata break a rule",
    "XDSRepositoryMetadataError": "P: hash or size do not fit the document",
    "XDSRegistryError": "any: no better code",
    "XDSRepositoryError": "any: no better code; I: pixels cannot be given in any syntax asked for",
    "XDSDuplicateUniqueIdInRegistry": "P R: a SubmissionSet's or Folder's uniqueId is taken",
    "XDSRegistryDuplicateUniqueIdInMessage": "P R: a uniqueId stands twice in the message",
    "XDSNonIdenticalHash": "R: same document uniqueId, other hash",
    "XDSNonIdenticalSize": "R: same document uniqueId, other size",
    "UnresolvedReferenceException": "P R D: an entryUUID leads nowhere",
    "XDSRegistryDeprecatedDocumentError": "P R: an association's target is Deprecated",
    "XDSStoredQueryMissingParam": "SQ: a required parameter is missing",
    "XDSStoredQueryParamNumber": "SQ: too many values, or two parameters that exclude each other",
    "XDSUnknownStoredQuery": "SQ: the query id is unknown",
    "XDSTooManyResults": "SQ: too many results",
    "XDSResultNotSinglePatient": "SQ RS: the result would mix patients",
    "XDSUnknownCommunity": "SQ RS: homeCommunityId unknown",
    "XDSMissingHomeCommunityId": "SQ RS: homeCommunityId required",
    "XDSUnavailableCommunity": "SQ RS: the community does not answer",
    "XDSUnknownRepositoryId": "RS I: repositoryUniqueId unknown",
    "XDSDocumentUniqueIdError": "RS I: the document is not available, or not to this caller",
    "XDSRegistryBusy": "try again later",
    "XDSRepositoryBusy": "try again later",
    "XDSRegistryNotAvailable": "the registry cannot answer now",
    "XDSRegistryOutOfResources": "the registry is out of resources",
    "XDSRepositoryOutOfResources": "the repository is out of resources",
    "XDSMetadataUpdateError": "U: general",
    "XDSMetadataUpdateOperationError": "U: the operation cannot be done",
    "XDSMetadataVersionError": "U: the version, or the status, is not the current one",
    "XDSPatientIDReconciliationError": "U: patient ids do not agree",
    "XDSMetadataIdentifierError": "U: logical or unique id does not fit",
    "XDSObjectTypeError": "U: objectType may not change",
    "XDSInvalidRequestException": "U D: the request is not built as it must be",
    "ReferencesExistException": "D: something that stays refers to what would go",
    "XDSUnreferencedObjectException": "D: an object would stay that nothing refers to",
    "UnmodifiableMetadataError": "U: this attribute may not change",
    "XDSIRequestError": "I: the request is malformed",
    "XDSIUnknownIdsUid": "I: no imaging document source of that id",
}


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One rs:RegistryError. ``location``: the object, document or community at fault."""

    code: str
    context: str
    location: str = ""
    severity: Severity = "Error"


class RegistryRefusal(PeerError):
    """A request refused with one or more registry errors: RegistryResponse Failure in HTTP 200."""

    def __init__(self, errors: Iterable[RegistryError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.context, where=first.location, xds_code=first.code)


def refusal(code: str, context: str, location: str = "") -> RegistryRefusal:
    """A refusal with one error."""
    return RegistryRefusal([RegistryError(code, context, location)])


def registry_errors(error: CrosslightError) -> tuple[RegistryError, ...]:
    """``error`` as registry errors: the peer's fault in its own words, ours without detail."""
    if isinstance(error, RegistryRefusal):
        return error.errors
    code = error.xds_code if error.xds_code in CODES else "XDSRegistryError"
    if isinstance(error, StorageError):
        return (RegistryError("XDSRegistryOutOfResources", error.what),)
    if isinstance(error, OurError):
        return (RegistryError("XDSRegistryError", "Something went wrong here."),)
    return (RegistryError(code, str(error), error.where),)
