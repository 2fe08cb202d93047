"""What became of an act: one grammar, which reads what every release wrote."""

from __future__ import annotations

import asyncio

import pytest

from crosslight.runtime.audit.outcome import Outcome, counted, outcome_of
from crosslight.standards.problem import (
    Conflict,
    Forbidden,
    Invalid,
    MemberUnreachable,
    NotFound,
    StorageError,
    Unauthenticated,
)


@pytest.mark.parametrize(
    ("outcome", "text", "words"),
    [
        (Outcome("ok"), "ok", "done"),
        (counted(given=3), "ok 3 given", "done: 3 given"),
        (counted(stored=0), "ok 0 stored", "done: 0 stored"),
        (
            counted("partial", stored=2, duplicate=0, refused=1),
            "partial 2 stored, 1 refused",
            "done in part: 2 stored, 1 refused",
        ),
        (
            counted("ok", **{"documents": 1, "in all": 1}),
            "ok 1 documents, 1 in all",
            "done: 1 documents, 1 in all",
        ),
        (
            Outcome("refused", code="XDSUnknownPatientId"),
            "refused: XDSUnknownPatientId",
            "refused: XDSUnknownPatientId",
        ),
        (
            Outcome("failed", code="MemberUnreachable"),
            "failed: MemberUnreachable",
            "failed: member unreachable",
        ),
        (Outcome("denied"), "denied", "denied"),
        (Outcome("cut"), "cut", "cut off: an answer was begun and did not end"),
    ],
)
def test_what_is_written_is_read_again(outcome: Outcome, text: str, words: str) -> None:
    assert str(outcome) == text
    assert Outcome.parse(text) == outcome
    assert outcome.in_words() == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Outcome("cut")),
        ("ok", Outcome("ok")),
        ("ok 3", Outcome("ok", (("", 3),))),
        ("ok 3, refused 2", Outcome("partial", (("", 3), ("refused", 2)))),
        ("ok 2 stored, 1 duplicate", Outcome("ok", (("stored", 2), ("duplicate", 1)))),
        ("ok 2 stored, 1 refused", Outcome("partial", (("stored", 2), ("refused", 1)))),
        ("failed: 0 stored, 3 refused", Outcome("failed", (("stored", 0), ("refused", 3)))),
        ("ok 12 stored of 12", Outcome("ok", (("stored", 12), ("in all", 12)))),
        ("ok 1 documents of 3", Outcome("partial", (("documents", 1), ("in all", 3)))),
        ("ok 1 instances", Outcome("ok", (("instances", 1),))),
        ("denied", Outcome("denied")),
        ("refused: XDSUnknownPatientId", Outcome("refused", code="XDSUnknownPatientId")),
        ("refused: wrong name or password", Outcome("refused", code="wrong name or password")),
        ("refused: Unauthenticated state", Outcome("refused", code="Unauthenticated state")),
        ("failed: ours", Outcome("failed", code="ours")),
        ("failed: internal", Outcome("failed", code="internal")),
        ("failed: NotFound", Outcome("failed", code="NotFound")),
        ("something else", Outcome("failed", code="something else")),
    ],
)
def test_what_older_releases_wrote_is_understood(text: str, expected: Outcome) -> None:
    assert Outcome.parse(text) == expected


def test_an_older_count_is_told_as_before() -> None:
    assert Outcome.parse("ok 3").in_words() == "done: 3 given"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Invalid("x"), Outcome("refused", code="Invalid")),
        (NotFound("x"), Outcome("refused", code="NotFound")),
        (Conflict("x"), Outcome("refused", code="Conflict")),
        (Forbidden("x"), Outcome("denied", code="Forbidden")),
        (Unauthenticated("x"), Outcome("denied", code="Unauthenticated")),
        (StorageError("x"), Outcome("failed", code="StorageError")),
        (MemberUnreachable("x"), Outcome("failed", code="MemberUnreachable")),
        (ZeroDivisionError("999 000 0018"), Outcome("failed", code="ZeroDivisionError")),
        (ConnectionResetError(), Outcome("cut", (("given", 2),))),
        (asyncio.CancelledError(), Outcome("cut", (("given", 2),))),
        (GeneratorExit(), Outcome("cut", (("given", 2),))),
    ],
)
def test_an_error_is_an_outcome_and_its_text_is_none(error: BaseException, expected: Outcome) -> None:
    assert outcome_of(error, counted(given=2)) == expected


def test_a_face_may_name_an_error_by_its_standards_code() -> None:
    assert (
        str(outcome_of(Invalid("x"), Outcome("ok"), "XDSRegistryMetadataError"))
        == "refused: XDSRegistryMetadataError"
    )
