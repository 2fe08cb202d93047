"""What a suspended member reads of it: whole sentences, whatever the operator wrote, each said once."""

from __future__ import annotations

import pytest

from crosslight.standards.problem import as_sentence
from node.membership.link_record import SeenLink, link_text


@pytest.mark.parametrize(
    ("reason", "said"), [("a drill", "a drill."), ("a drill.", "a drill."), (" why? ", "why?"), ("", "")]
)
def test_what_a_person_wrote_stands_among_sentences(reason: str, said: str) -> None:
    assert as_sentence(reason) == said


@pytest.mark.parametrize(
    ("told", "ends"),
    [
        (
            "This member is suspended. a drill. Ask the region's operator.",
            "a drill. Ask the region's operator.",
        ),
        ("", "UTC: Ask its operator."),
    ],
)
def test_status_says_who_is_to_be_asked_once(told: str, ends: str) -> None:
    seen = SeenLink(connected=False, since="2026-11-30T23:04:00", suspended=told)
    text = link_text(seen, serving=True)
    assert text.endswith(ends)
    assert text.count("Ask") == 1
