"""Large ordinary objects: let in whole, in memory that follows their bytes and not the number of their
elements.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import dicom_large
import dicom_objects as make
import orjson
import pytest
from dicom_objects import IDENTITY, element, item

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.vr import INDEX_SEQUENCES, dictionary_vr


def _json(found: header.Header) -> dict[str, Any]:
    """All of it, as a node puts it together."""
    return orjson.loads(found.metadata) | (orjson.loads(found.large) if found.large else {})


_ITEMS = {
    "SEG of 31,200 frames": ("52009230", 31_200),
    "RTSTRUCT of 18,000 contours": ("30060039", 30),
    "enhanced MR of 1,500 frames with vendor blocks": ("52009230", 1_500),
    "WSI of 40,000 tiles": ("52009230", 40_000),
}


@pytest.mark.parametrize("name", _ITEMS)
def test_a_large_object_is_read_whole(name: str) -> None:
    found = header.read(gate.examine(dicom_large.LARGE[name]()))
    tag, count = _ITEMS[name]
    items = _json(found)[tag]["Value"]
    assert len(found.metadata) < 1 << 20, "what searches read is small"
    assert (len(items), found.notes, found.study_uid) == (count, frozenset(), dicom_large.STUDY)
    assert all(items), "each item with its elements"


def test_what_was_let_go_reads_as_what_was_held() -> None:
    for data in (
        dicom_large.segmentation(60),
        dicom_large.structure_set(90),
        dicom_large.enhanced_mr(6),
        dicom_large.slide(40),
    ):
        whole = header.read(gate.examine(data))
        for held in (0, 1, 50, 300):
            parsed = gate.examine(data, limits=gate.Limits(max_held_elements=held))
            assert any(isinstance(found[4], gate.Aside) for found in parsed.elements) or held == 300
            assert _json(header.read(parsed)) == _json(whole)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_sequences_of_every_coding_are_let_go_and_read_again(vr: str, undefined: bool) -> None:
    inner = element(0x00081155, "UI", b"1.2.3\0") if vr == "SQ" else b"\x08\0\x55\x11\6\0\0\0" + b"1.2.3\0"
    items = b"".join(item(inner, open_ended=undefined) for _ in range(20))
    value = element(0x00081140, vr, items + make.SEQUENCE_END * undefined, 0xFFFFFFFF if undefined else None)
    found = header.read(
        gate.examine(make.raw_part10(IDENTITY + value), limits=gate.Limits(max_held_elements=5))
    )
    assert _json(found)["00081140"]["Value"] == [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}] * 20


def test_memory_of_the_walk_does_not_grow_with_the_object() -> None:
    limits = gate.Limits(max_held_elements=2_000)
    peaks = {}
    for frames in (500, 3_000):
        data = dicom_large.segmentation(frames)
        tracemalloc.start()
        parsed = gate.examine(data, limits=limits)
        peaks[frames] = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        size = len(header.read(parsed).large)
        with_json = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peaks[frames] < 300 * limits.max_held_elements, (
            "bytes for each element that is held, whatever the object"
        )
        assert with_json < (1 << 20) + 3 * size, "its JSON, twice while it is put together"
    assert peaks[3_000] < len(data) / 2
    assert peaks[3_000] < 1.5 * peaks[500]


def test_what_the_index_is_made_of_is_always_held() -> None:
    tags = (*header.STUDY_TAGS, *header.SERIES_TAGS, "0040A043", "0040A375")
    assert {int(tag, 16) for tag in tags if dictionary_vr(int(tag, 16)) == "SQ"} == INDEX_SEQUENCES
    note = make.note("113001", [make.image(n) for n in range(50)])
    found = header.read(gate.examine(make.part10(note), limits=gate.Limits(max_held_elements=3)))
    assert (found.rejection, len(found.references)) == ("113001", 50)


def test_what_is_held_for_the_index_is_bounded_too() -> None:
    flat = IDENTITY + b"".join(element(0x00231000 + n, "UN", b"") for n in range(900))
    for data in (flat, IDENTITY + element(0x00400275, "SQ", item(b"") * 900)):
        with pytest.raises(gate.Refused) as refused:
            gate.examine(make.raw_part10(data), limits=gate.Limits(max_index_elements=800))
        assert refused.value.reason == "elements"


def test_json_beyond_its_bound_is_left_out_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosslight.standards.dicom.file.metadata.MAX_LARGE_BYTES", 5_000)
    found = _json(header.read(gate.examine(dicom_large.segmentation(2_000))))
    assert "52009230" not in found
    assert found["00280008"]["Value"] == [2_000]
