"""Accept negotiation: the table of what viewers really send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.dicom.web.accept import (
    DICOM,
    EXPLICIT_LE,
    OCTETS,
    MediaRange,
    Offer,
    choose,
    describe,
    parse_accept,
    require,
)
from crosslight.standards.problem import NotAcceptable

JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
JSON = (Offer("application/dicom+json"), Offer("application/json"))
INSTANCE = (  # one instance stored in JPEG
    Offer(DICOM, True, JPEG),
    Offer(DICOM, True, EXPLICIT_LE),
    Offer(DICOM, False, JPEG),
    Offer(DICOM, False, EXPLICIT_LE),
)
FRAMES = (Offer("image/jpeg", True, JPEG), Offer(OCTETS, True, JPEG), Offer(OCTETS, True, EXPLICIT_LE))
PICTURE = (Offer("image/jpeg"), Offer("image/png"))


@pytest.mark.parametrize(
    ("accept", "offers", "index"),
    [
        # nothing said, or anything
        ([], JSON, 0),
        ([""], JSON, 0),
        (["*/*"], INSTANCE, 0),
        (["*"], PICTURE, 0),
        # OHIF's list, which other servers refuse
        (["application/dicom+json, multipart/related; type=application/octet-stream"], JSON, 0),
        (['application/dicom+json, multipart/related; type="application/octet-stream"'], JSON, 0),
        (["application/json"], JSON, 1),
        (["application/*"], JSON, 0),
        (["application/dicom+xml, application/dicom+json"], JSON, 0),
        (["application/dicom+xml", "application/dicom+json;q=0.5"], JSON, 0),
        (["APPLICATION/DICOM+JSON"], JSON, 0),
        (["text/html, application/xhtml+xml, */*;q=0.8"], JSON, 0),
        # instances
        (['multipart/related; type="application/dicom"'], INSTANCE, 0),
        (["multipart/related; type=application/dicom"], INSTANCE, 0),
        (["multipart/related;type=application/dicom;transfer-syntax=*"], INSTANCE, 0),
        ([f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT_LE}'], INSTANCE, 1),
        ([f'multipart/related; type="application/dicom"; transfer-syntax="{EXPLICIT_LE}"'], INSTANCE, 1),
        ([f'multipart/related; transfer-syntax={JPEG}; type="application/dicom"'], INSTANCE, 0),
        (["multipart/related"], INSTANCE, 0),
        (["application/dicom"], INSTANCE, 2),
        ([f"application/dicom; transfer-syntax={EXPLICIT_LE}"], INSTANCE, 3),
        (["application/dicom; Transfer-Syntax=*"], INSTANCE, 2),
        # several: an impossible one beside a possible one
        (
            [
                f'multipart/related; type="application/dicom"; transfer-syntax={J2K}, '
                f'multipart/related; type="application/dicom"; '
                f"transfer-syntax={EXPLICIT_LE}"
            ],
            INSTANCE,
            1,
        ),
        (
            [f"application/dicom; transfer-syntax={J2K}", "application/dicom; transfer-syntax=*;q=0.1"],
            INSTANCE,
            2,
        ),
        # q decides, then our own order
        (["image/png, image/jpeg;q=0.9"], PICTURE, 1),
        (["image/*;q=0.5, image/png"], PICTURE, 1),
        (["image/jpeg;q=0, image/*"], PICTURE, 1),
        (["image/png;q=abc"], PICTURE, 1),
        (["image/png, image/jpeg"], PICTURE, 0),
        # frames
        (['multipart/related; type="image/jpeg"'], FRAMES, 0),
        (['multipart/related; type="image/jpeg"; transfer-syntax=' + JPEG], FRAMES, 0),
        (["multipart/related; type=application/octet-stream; transfer-syntax=*"], FRAMES, 1),
        ([f"multipart/related; type=application/octet-stream; transfer-syntax={EXPLICIT_LE}"], FRAMES, 2),
        # unreadable elements are left out
        (['multipart/related; type="application/dicom, application/dicom'], INSTANCE, 0),
        ([";;;, application/json"], JSON, 1),
    ],
)
def test_best_match(accept: list[str], offers: tuple[Offer, ...], index: int) -> None:
    assert choose(parse_accept(accept), offers) == offers[index]


@pytest.mark.parametrize(
    ("accept", "offers"),
    [
        (["application/dicom+xml"], JSON),
        (["application/dicom+json;q=0"], JSON[:1]),
        (["*/*;q=0"], JSON),
        ([f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'], INSTANCE),
        (["image/gif"], PICTURE),
        (['multipart/related; type="image/jp2"'], FRAMES),
    ],
)
def test_nothing_that_could_be_given(accept: list[str], offers: tuple[Offer, ...]) -> None:
    with pytest.raises(NotAcceptable) as caught:
        require(parse_accept(accept), offers)
    assert describe(offers[0]) in caught.value.todo


def test_the_query_parameter_comes_before_the_header() -> None:
    assert choose(parse_accept(["image/jpeg"], "image/png"), PICTURE) == PICTURE[1]
    assert parse_accept(["image/jpeg"], " ") == (MediaRange("image/jpeg"),)


@given(st.text(max_size=200))
def test_any_header_is_read(text: str) -> None:
    ranges = parse_accept([text])
    assert ranges
    choose(ranges, INSTANCE)


@given(
    st.permutations(
        ["application/dicom+xml", "text/*", "application/dicom+json", "foo", 'multipart/related; type="a/b"']
    )
)
def test_never_refused_while_one_listed_type_can_be_given(elements: list[str]) -> None:
    assert choose(parse_accept([", ".join(elements)]), JSON) == JSON[0]
