"""One tree of errors for both services, and how each looks on each wire.

::

    CrosslightError
      OurError                    our fault, or our surroundings'
        ConfigError               a configuration that cannot be used
        StorageError              disk, database, full or broken
          OutOfSpace              below min_free_bytes
      PeerError                   the caller's, or another system's
        Malformed                 cannot be read as what it claims to be
          TooLarge                over a bound (size, count, depth, time)
          TooSlow                 does not come in time
        Invalid                   readable, but breaks a rule of the standard
        NotFound                  no such thing here
          Gone                    it was here (deleted, deprecated)
        Conflict                  collides with what is stored
          ChoiceNeeded            several answers, none of which is the default
        MethodNotAllowed          not at this address
        UnsupportedMediaType      in a form that is not taken here
        Unauthenticated           who are you?
        Forbidden                 known, and not allowed
        NotAcceptable             none of the asked representations can be given
        RangeNotSatisfiable       there are no such bytes
        Unsupported               a part of the standard that is not built here
        PeerRefused               another system refused what was passed on to it, with a status of its own
        BadGateway                another system's answer to us is none that can be used
        Unavailable               a peer or a part of us cannot answer now
          Busy                    too many ask at once
            OverRate              and whoever asks has asked as often as it may for now
            OverShare             and whoever asks has all of its own share
          MemberFailed            the member that holds it answered with a failure
          MemberUnreachable       the member that holds it cannot be reached

Every error says *what*, *why* and *what to do*, and never carries patient data or a stack trace to a peer. A
face renders it once: HTTP status from ``http_status``, which the class says and nobody sets afterwards; when
to come back from ``retry_after_s``; XDS, FHIR and DICOM codes from the fields below where a face has better
ones.
"""

from __future__ import annotations

import copyreg
import re
from collections.abc import Sequence
from typing import Any

from crosslight.standards.choices import OneAnswer

_PLAIN = frozenset(
    {
        "Exception",
        "Decode",
        "Invalid",
        "Value",
        "Type",
        "Key",
        "Index",
        "Attribute",
        "OS",
        "Runtime",
        "Assertion",
        "Lookup",
    }
)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")


def kind_in_words(error: BaseException | str) -> str:
    """What kind of error it is, for people: ``ExpiredTokenError`` is *expired token*.

    '' for kinds that say nothing.

    The text of an error of a library is not used: it may hold what it read.
    """
    name = (error if isinstance(error, str) else type(error).__name__).removesuffix("Error")
    return "" if not name or name in _PLAIN else " ".join(word.lower() for word in _WORDS.findall(name))


def as_sentence(text: str) -> str:
    """What a person wrote, to stand among sentences as a ``why``."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def kind_as_sentence(error: BaseException) -> str:
    """:func:`kind_in_words` as a ``why``, which stands among other sentences."""
    words = kind_in_words(error)
    return f"{words[:1].upper()}{words[1:]}." if words else ""


class CrosslightError(Exception):
    """Base of all our errors.

    Args:
        what: One sentence for the person or program at the other end.
        why: The rule or the fact behind it, with its clause where there is one.
        todo: What the reader can do about it.
        where: The element, parameter, path or clause that is at fault.
        xds_code: IHE ITI TF-3 Table 4.2.4.1-2 error code, when this reaches a SOAP face.
        fhir_code: FHIR issue type, when this reaches the FHIR face.
    """

    http_status = 500
    retry_after_s: int | None = None
    fhir_code = "exception"
    xds_code = "XDSRegistryError"

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        todo: str = "",
        where: str = "",
        xds_code: str | None = None,
        fhir_code: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.where = where
        if xds_code is not None:
            self.xds_code = xds_code
        if fhir_code is not None:
            self.fhir_code = fhir_code

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.todo) if part)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by its values, whatever else its class takes to make one."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # pickle's own name


class OurError(CrosslightError):
    """Our fault: the peer did nothing wrong."""


class ConfigError(OurError):
    """A configuration value that cannot be used; ``where`` is its key path."""


class StorageError(OurError):
    """The disk or the database refused."""

    http_status = 503
    fhir_code = "transient"
    xds_code = "XDSRegistryOutOfResources"


class OutOfSpace(StorageError):
    """Less than the configured reserve is free: refuse, and recover when space returns."""

    http_status = 507
    xds_code = "XDSRepositoryOutOfResources"


class PeerError(CrosslightError):
    """The other side's data or request is at fault."""

    http_status = 400
    fhir_code = "invalid"


class Malformed(PeerError):
    """Cannot be read as what it claims to be."""

    fhir_code = "structure"


class TooLarge(Malformed):
    """Over one of our bounds."""

    http_status = 413
    fhir_code = "too-long"


class TooSlow(Malformed):
    """It stopped coming: it must not hold its connection for ever."""

    http_status = 408


class Invalid(PeerError):
    """Readable, but it breaks a rule."""

    xds_code = "XDSRegistryMetadataError"


class NotFound(PeerError):
    """No such thing here, or none that this caller may know of."""

    http_status = 404
    fhir_code = "not-found"
    xds_code = "XDSDocumentUniqueIdError"


class Gone(NotFound):
    """It was here."""

    http_status = 410
    fhir_code = "deleted"


class Conflict(PeerError):
    """Collides with what is stored."""

    http_status = 409
    fhir_code = "conflict"


class ChoiceNeeded(Conflict):
    """Several answers, none of which is the default: the caller says which is meant.

    Args:
        choices: Each with an address of its own.
    """

    def __init__(
        self,
        what: str,
        *,
        choices: Sequence[OneAnswer] = (),
        why: str = "",
        todo: str = "",
        where: str = "",
    ) -> None:
        super().__init__(what, why=why, todo=todo, where=where)
        self.choices = tuple(choices)


class MethodNotAllowed(PeerError):
    """Not a method of this address."""

    http_status = 405
    fhir_code = "not-supported"


class UnsupportedMediaType(PeerError):
    """The body comes in a form that is not taken here."""

    http_status = 415


class Unauthenticated(PeerError):
    """No credentials, or none that hold."""

    http_status = 401
    fhir_code = "login"


class Forbidden(PeerError):
    """Known, and not allowed."""

    http_status = 403
    fhir_code = "forbidden"


class NotAcceptable(PeerError):
    """None of the representations asked for can be given (PS3.18 8.7)."""

    http_status = 406
    fhir_code = "not-supported"


class RangeNotSatisfiable(PeerError):
    """There are no such bytes (RFC 9110 15.5.17).

    Args:
        total: Bytes that there are.
    """

    http_status = 416
    fhir_code = "invalid"

    def __init__(self, what: str, *, why: str = "", todo: str = "", where: str = "", total: int = 0) -> None:
        super().__init__(what, why=why, todo=todo, where=where)
        self.total = total


class Unsupported(PeerError):
    """A part of the standard that is not built here."""

    http_status = 501
    fhir_code = "not-supported"


class PeerRefused(PeerError):
    """Another system refused what was passed on to it: passed back with the status that it gave.

    Args:
        http_status: That status, of 400 to 499.
    """

    def __init__(
        self, what: str, *, http_status: int, why: str = "", todo: str = "", where: str = ""
    ) -> None:
        super().__init__(what, why=why, todo=todo, where=where)
        self.http_status = http_status


class BadGateway(PeerError):
    """What another system answered us is no answer that can be used."""

    http_status = 502


class Unavailable(PeerError):
    """A peer, or a part of us, cannot answer now; try again."""

    http_status = 503
    retry_after_s = 30
    fhir_code = "transient"
    xds_code = "XDSRegistryNotAvailable"


class Busy(Unavailable):
    """Too many ask at once: nothing is broken, and it may be asked again soon."""

    retry_after_s = 5
    fhir_code = "throttled"
    xds_code = "XDSRegistryBusy"


class OverRate(Busy):
    """One caller has asked as often as they may for now (RFC 6585 4)."""

    http_status = 429
    retry_after_s = 600


class OverShare(Busy):
    """One caller asks for too much at once: others are served meanwhile (RFC 6585 4)."""

    http_status = 429


class MemberFailed(Unavailable):
    """The member that holds it answered with a failure of its own; ``where`` is its organisation code."""

    http_status = 502


class MemberUnreachable(Unavailable):
    """The member that holds it cannot be reached now; ``where`` is its organisation code."""

    http_status = 504
    fhir_code = "timeout"
    xds_code = "XDSRepositoryError"
