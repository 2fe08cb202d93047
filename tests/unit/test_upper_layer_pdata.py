"""P-DATA-TF PDUs written and read again, by us and by pynetdicom's reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as pynetdicom_pdu

from crosslight.standards.dicom.upper_layer.pdata import (
    COMMAND,
    LAST,
    LONGEST_PDU,
    command_pdus,
    data_pdus,
    fragments_of,
    room_for,
)
from crosslight.standards.problem import Malformed

BLOCKS = st.lists(st.binary(max_size=300), max_size=12)
LONGEST = st.integers(8, 400)


def _joined(pdus: list[bytes], context_id: int, kind: int) -> bytes:
    """The message in these PDUs; its control headers say what they should."""
    values = [value for pdu in pdus for value in fragments_of(pdu)]
    assert [number for number, _ in values] == [context_id] * len(values)
    assert [data[0] for _, data in values] == [kind] * (len(values) - 1) + [kind | LAST]
    return b"".join(data[1:] for _, data in values)


@given(BLOCKS, LONGEST)
def test_a_data_set_in_any_pieces_is_read_again_as_it_was(blocks: list[bytes], longest: int) -> None:
    pdus = list(data_pdus(7, blocks, longest))
    assert _joined(pdus, 7, 0) == b"".join(blocks)
    assert all(len(pdu) - 6 <= longest for pdu in pdus), "a PDU's head does not count (PS3.8 D.1)"
    assert all(len(pdu) - 12 == room_for(longest) for pdu in pdus[:-1]), "all but the last are full"


@given(st.binary(min_size=1, max_size=500), LONGEST)
def test_a_command_set_is_cut_too_where_the_peer_takes_little(command: bytes, longest: int) -> None:
    assert _joined(list(command_pdus(3, command, longest)), 3, COMMAND) == command


@given(BLOCKS, LONGEST)
def test_pynetdicom_reads_what_we_write(blocks: list[bytes], longest: int) -> None:
    data = b""
    for pdu in data_pdus(5, blocks, longest):
        theirs = pynetdicom_pdu.P_DATA_TF()
        theirs.decode(pdu)
        assert theirs.encode() == pdu
        (value,) = theirs.presentation_data_value_items
        assert value.presentation_context_id == 5
        data += value.presentation_data_value[1:]
    assert data == b"".join(blocks)


def test_no_more_than_a_block_is_asked_for_ahead() -> None:
    asked = []

    def blocks() -> object:
        for number in range(10):
            asked.append(number)
            yield bytes(100)

    pdus = data_pdus(1, blocks(), 106)  # type: ignore[arg-type]
    next(pdus)
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("longest", "room"),
    [(16384, 16378), (16385, 16378), (0, LONGEST_PDU - 6), (1 << 24, LONGEST_PDU - 6), (1, 2)],
)
def test_what_a_peer_takes_decides_the_size(longest: int, room: int) -> None:
    assert room_for(longest) == room


def test_an_empty_data_set_is_one_empty_fragment() -> None:
    assert _joined(list(data_pdus(1, [], 100)), 1, 0) == b""
    assert len(list(data_pdus(1, [b"", b""], 100))) == 1


def test_values_that_do_not_fill_their_pdu_are_refused() -> None:
    (pdu,) = data_pdus(1, [b"abcd"], 100)
    with pytest.raises(Malformed):
        fragments_of(pdu[:-1])
