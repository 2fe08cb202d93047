"""Which media types are let through for which resource (PS3.18 8.7.3)."""

from __future__ import annotations

import pytest

from crosslight.standards.dicom.web.given import may_be_given, resource_of

STUDY = "studies/1.2.3"
INSTANCE = f"{STUDY}/series/1.2.3.1/instances/1.2.3.1.1"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (STUDY, 'multipart/related; type="application/dicom"; boundary=x'),
        (STUDY, 'Multipart/Related;type=application/octet-stream;boundary="a,b; c"'),
        (INSTANCE, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90"),
        (f"{INSTANCE}/frames/1,2", 'multipart/related; type="image/jls"; boundary=x'),
        (f"{INSTANCE}/frames/1", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"),
        (f"{STUDY}/metadata", "application/dicom+json"),
        (f"{STUDY}/metadata", "application/json; charset=utf-8"),
        (f"{INSTANCE}/rendered", "image/png"),
        (f"{INSTANCE}/frames/3/rendered", "image/jpeg"),
        (f"{STUDY}/thumbnail", "image/jpeg"),
        (f"{INSTANCE}/rendered", "video/mp4"),
    ],
)
def test_what_the_standard_gives_there_passes(path: str, said: str) -> None:
    assert may_be_given(resource_of(path), said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/pdf",
        "application/javascript",
        "multipart/x-mixed-replace; boundary=x",
        "multipart/related; boundary=x",
        'multipart/related; type="text/html"; boundary=x',
        # a browser takes the last of a list (Fetch 2.2.2, "extract a MIME type")
        "application/dicom, text/html",
        "image/jpeg; x=1, text/html",
        "image/jpeg;charset=x\x00",
        "image/jpeg;\r\nX: y",
        "image/jpeg; x=\u00e9",
        "image/jpeg text/html",
        'image/jpeg; x="',
    ],
)
@pytest.mark.parametrize(
    "path", [STUDY, INSTANCE, f"{INSTANCE}/frames/1", f"{STUDY}/metadata", f"{STUDY}/thumbnail"]
)
def test_whatever_else_is_none(path: str, said: str) -> None:
    assert not may_be_given(resource_of(path), said)


def test_pictures_are_no_objects_and_objects_no_pictures() -> None:
    assert not may_be_given(resource_of(f"{STUDY}/rendered"), "application/dicom")
    assert not may_be_given(resource_of(STUDY), "image/jpeg")
    assert not may_be_given("error", "text/html")
    assert may_be_given("error", "application/problem+json")
