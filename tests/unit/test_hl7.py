"""HL7 v2: reading, writing, acknowledgements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.hl7.ack import Ack, ack_for, parse_ack, render_ack
from crosslight.standards.hl7.adt import Adt, MessageHeader, feed_message, header_of, parse_adt, render_adt
from crosslight.standards.hl7.framing import Framer, frame
from crosslight.standards.hl7.message import escape, parse_header, parse_message
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Invalid, Malformed, NotFound, StorageError, TooLarge, Unsupported
from crosslight.standards.study import Patient, PersonName

HEADER = MessageHeader(
    control_id="7", time="20261122030000", sending_application="CROSSLIGHT", sending_facility="RTK"
)
LOCAL = Identifier("A1", "1.2.3")
MSH = "MSH|^~\\&|A|F|R|G|20200101||ADT^A04|c1|P|2.3.1"


def message(pid: str, *, msh: str = MSH, tail: str = "PV1||O\r") -> bytes:
    return f"{msh}\rEVN|A04\r{pid}\r{tail}".encode()


def test_reads_what_identity_needs() -> None:
    adt = parse_adt(
        message(
            "PID|1||A1^^^LOC&1.2.3&ISO^MR~999 000"
            " 0018^^^NHS^NH~X^^^&9.9.9&ISO~Y^^^UNKNOWN"
            "||O'Neil&van^Zoë^M^Jr^Dr^^L~Alias^Z^^^^^A||19500203121500|F|||1"
            " High St^^Town^^GU2 7XX^^H" + "|" * 21 + "01"
        )
    )
    assert adt.identifiers == (
        Identifier("A1", "1.2.3", "LOC"),
        Identifier("999 000 0018", NHS_NUMBER_OID, "NHS"),
        Identifier("X", "9.9.9"),
        Identifier("Y", "", "UNKNOWN"),
    )
    assert adt.name.pn == "O'Neil^Zoë^M^Dr^Jr"
    assert (adt.birth_date, adt.sex, adt.postcode, adt.traced) == ("19500203", "F", "GU2 7XX", True)
    assert adt.patient(adt.identifiers[0]).others == adt.identifiers[1:]


@pytest.mark.parametrize(
    ("codec", "declared"),
    [
        ("utf-8", "UNICODE UTF-8"),
        ("latin-1", "8859/1"),
        ("utf-8", ""),
        ("latin-1", ""),
        ("iso8859-5", "8859/5"),
    ],
)
def test_character_sets(codec: str, declared: str) -> None:
    family = "Ибраимов" if codec == "iso8859-5" else "Müller"
    data = f"{MSH}||||||{declared}\rPID|||A1^^^&1.2.3&ISO||{family}^X\r".encode(codec)
    assert parse_adt(data).name.pn == f"{family}^X"


def test_character_sets_that_are_not_what_they_say() -> None:
    with pytest.raises(Malformed):
        parse_message(f"{MSH}||||||UNICODE UTF-8\rPID|||é\r".encode("latin-1"))
    with pytest.raises(Unsupported):
        parse_message(f"{MSH}||||||KLINGON\rPID|||e\r".encode())


@pytest.mark.parametrize(
    ("codec", "spelling"),
    [
        *[
            ("latin-1", s)
            for s in ("ISO-8859-1", "ISO8859-1", "ISO 8859/1", "iso_8859-1", "8859-1", "LATIN1", "ISO IR100")
        ],
        *[
            ("utf-8", s)
            for s in ("UTF8", "utf-8", "UNICODE UTF-8", "UNICODE_UTF-8", "Unicode", "UTF-8~8859/1")
        ],
        *[("cp1252", s) for s in ("WINDOWS-1252", "windows 1252", "CP1252")],
        *[("iso8859-15", s) for s in ("ISO-8859-15", "8859/15")],
        *[("cp1250", s) for s in ("WINDOWS-1250", "CP-1250")],
    ],
)
def test_character_sets_under_their_common_spellings(codec: str, spelling: str) -> None:
    data = f"{MSH}||||||{spelling}\rPID|||A1^^^&1.2.3&ISO||Müller^X\r".encode(codec)
    assert parse_adt(data).name.pn == "Müller^X"


@pytest.mark.parametrize(
    ("marks", "pid", "name", "read"),
    [
        ("^~\\&", "A1^^^LOC&1.2.3&ISO", "D\\T\\X^Ann", "D&X^Ann"),
        # no escape character: as it stands, but for PN's own signs
        ("^~&", "A1^^^LOC&1.2.3&ISO", "D\\T\\X^Ann", "D T X^Ann"),
        ("^~\\", "A1", "D\\F\\&X^Ann", "D|&X^Ann"),
        ("^~", "A1", "D&X^Ann", "D&X^Ann"),
        ("^", "A1", "D~X^Ann", "D~X^Ann"),
        ("^~\\&#", "A1^^^LOC&1.2.3&ISO", "D\\T\\X^Ann", "D&X^Ann"),
    ],
)
def test_separators_that_are_left_out_separate_nothing(marks: str, pid: str, name: str, read: str) -> None:
    data = message(f"PID|||{pid}||{name}", msh=MSH.replace("^~\\&", marks))
    adt = parse_adt(data, default_authority="1.2.3")
    assert (adt.identifiers[0].value, adt.identifiers[0].authority) == ("A1", "1.2.3")
    assert adt.name.pn == read


@pytest.mark.parametrize("marks", ["", "^^\\&", "PAS", "^~~&"])
def test_separators_that_cannot_be_told_apart_are_refused_for_good(marks: str) -> None:
    data = MSH.replace("^~\\&", marks).encode()
    with pytest.raises(Malformed) as refused:
        parse_message(data)
    assert refused.value.where == "MSH-2"
    assert not ack_for(refused.value, "c1").temporary


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (f"{MSH}||||||KLINGON\rPID|||A1\r".encode(), "103"),
        (f"{MSH}||||||UNICODE UTF-8\rPID|||A1||MÜLLER\r".encode("latin-1"), "102"),
        (MSH.encode() + b"\rZZZ" * 2000, "102"),
        (MSH.replace("^~\\&", "^^\\&").encode(), "102"),
    ],
)
def test_the_header_is_read_whatever_is_wrong_after_it(data: bytes, condition: str) -> None:
    header = header_of(parse_header(data))
    assert (header.control_id, header.processing_id, header.version) == ("c1", "P", "2.3.1")
    assert (header.sending_application, header.receiving_facility) == ("A", "G")
    with pytest.raises((Malformed, Unsupported)) as refused:
        parse_message(data)
    assert ack_for(refused.value, "c1").condition == condition


def test_other_delimiters_and_escapes() -> None:
    data = b"MSH$%*!@$A$F$R$G$20200101$$ADT%A08$c1$P$2.4\n"
    data += b"PID$$$A1%%%@1.2.3@ISO$$D!S!OE!X0D0A!!F!!E!^|%Jo!.br!e!ZZ!\r\n"
    adt = parse_adt(data)
    assert adt.event == "A08"
    assert adt.name.pn.split("^")[0] == "D%OE\r\n$! |", "the DICOM delimiter itself becomes a space"
    assert adt.name.pn.split("^")[1] == "Jo\ne!ZZ!"


def test_nulls_and_silence() -> None:
    adt = parse_adt(message('PID|||A1^^^&1.2.3&ISO~""^^^&2.16.840.1.113883.2.1.4.1&ISO||""||""|""|||""||||'))
    assert Identifier("", NHS_NUMBER_OID) in adt.identifiers
    assert adt.erase == {"birth_date", "sex", "postcode"}
    assert (adt.name.pn, adt.traced) == ("", None)
    assert parse_adt(message("PID|||A1"), default_authority="1.2.3").identifiers == (LOCAL,)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Malformed),
        (b"HELLO", Malformed),
        (MSH.replace("ADT^A04", "ORU^R01").encode(), Unsupported),
        (MSH.replace("A04", "A02").encode() + b"\rPID|||A1^^^&1.2&ISO", Unsupported),
        (MSH.encode(), Invalid),
        (message("PID|||"), Invalid),
        (message("PID|||A1^^^&1.2&ISO", tail="PID|||B\r"), Invalid),
        (message("PID|||A1^^^&1.2&ISO", msh=MSH.replace("A04", "A40")), Invalid),
        (message("PID|||A1^^^&1.2&ISO", msh=MSH.replace("A04", "A40"), tail="MRG|\r"), Invalid),
        (message("PID|||A1^^^&1.2&ISO", msh=MSH.replace("c1", "")), Invalid),
        (message("PID|||" + "~".join(["A"] * 300)), TooLarge),
        (MSH.encode() + b"\rZZZ" * 2000, TooLarge),
    ],
)
def test_what_is_refused(data: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse_adt(data)


def test_a40_pairs_ids_of_one_authority() -> None:
    data = message(
        "PID|||9990000018^^^NHS~B^^^&1.2.3&ISO",
        msh=MSH.replace("A04", "A40"),
        tail="MRG|C^^^&1.2.3&ISO\rPV1||O\r",
    )
    adt = parse_adt(data)
    assert (adt.survivor.value, adt.subsumed) == ("B", Identifier("C", "1.2.3"))


_PART = st.text(st.characters(codec="utf-8", exclude_characters="^=\\\0"), max_size=12).map(
    lambda s: " ".join(s.split(" ")).strip()
)
_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda s: s.strip(" ") == s and s != '""'
)
_NAMES = st.lists(_PART.filter(lambda s: s.strip() == s and s != '""'), max_size=5).map(
    lambda p: "^".join(p).rstrip("^")
)


@given(
    pn=_NAMES, ideographic=_NAMES, value=_TEXT, postcode=_TEXT, traced=st.sampled_from([None, True, False])
)
def test_any_text_survives_the_wire(
    pn: str, ideographic: str, value: str, postcode: str, traced: bool | None
) -> None:
    name = PersonName(f"{pn}={ideographic}" if ideographic else pn)
    adt = Adt(
        header=HEADER,
        event="A08",
        identifiers=(Identifier(value, "1.2.3", "N&^|\r"), Identifier("", "1.9")),
        name=name,
        birth_date="19500101",
        sex="O",
        postcode=postcode,
        traced=traced,
    )
    data = render_adt(adt)
    [same] = Framer().feed(frame(data))
    read = parse_adt(same)
    assert read == adt


@given(st.text(st.characters(codec="utf-8")))
def test_escaping_leaves_no_delimiter(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("|^&~\r\n\x0b\x1c")
    read = parse_message(f"{MSH}||||||UNICODE UTF-8\rPID|||{escaped}".encode())
    assert read.segments[1].component(3) == text.strip(" ")


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    for body in (data, MSH.encode() + b"\rPID|||" + data):
        try:
            parse_adt(body)
        except (Malformed, Invalid, Unsupported):
            pass


def test_feed_of_a_patient_round_trips_as_a_patient() -> None:
    patient = Patient(
        local=LOCAL,
        others=(Identifier("9990000018", NHS_NUMBER_OID),),
        name=PersonName("Yamada^Tarou=山田^太郎=やまだ^たろう"),
        birth_date="19500101",
        sex="M",
        postcode="GU2",
        traced=True,
    )
    adt = parse_adt(render_adt(feed_message(patient, HEADER)))
    assert adt.patient(LOCAL) == patient
    merge = Adt(header=HEADER, event="A40", identifiers=(LOCAL,), subsumed=Identifier("OLD", "1.2.3"))
    assert parse_adt(render_adt(merge)) == merge
    with pytest.raises(Malformed):
        render_adt(Adt(header=HEADER, event="A40", identifiers=(LOCAL,)))


@pytest.mark.parametrize("version", ["2.3.1", "2.5"])
@pytest.mark.parametrize(
    ("error", "code", "condition"),
    [
        (Invalid("No id.", where="PID-3"), "AE", "101"),
        (Invalid("Not of this domain.", where="PID-3.4"), "AE", "204"),
        (Invalid("Not a valid number.", where="PID-3.1"), "AE", "102"),
        (NotFound("Unknown id.", where="MRG-1"), "AE", "204"),
        (Unsupported("No.", where="MSH-9.2"), "AR", "201"),
        (StorageError("Disk|full^ünder"), "AR", "207"),
    ],
)
def test_acknowledgements_say_what_is_wrong(
    error: Exception, code: str, condition: str, version: str
) -> None:
    asked = header_of(parse_message(MSH.replace("2.3.1", version).encode()))
    made = ack_for(error, "c1")  # type: ignore[arg-type]
    data = render_ack(made, asked, control_id="k", time="20261122")
    read = parse_ack(data)
    assert (read.code, read.control_id, read.text, read.condition) == (code, "c1", str(error), condition)
    assert read.temporary == (condition == "207")
    assert b"MSH|^~\\&|R|G|A|F|20261122||ACK|k|P|" + version.encode() in data


def test_accepted() -> None:
    assert parse_ack(render_ack(ack_for(None, "c|1"), None, control_id="k", time="2026")) == Ack("AA", "c|1")
    with pytest.raises(Malformed):
        parse_ack(MSH.encode())


def test_framing_cuts_a_stream_anywhere() -> None:
    stream = b"\r\n" + frame(b"one") + frame(b"") + b"\n" + frame(b"three")
    for step in (1, 2, 3, 100):
        framer, found = Framer(), []
        for start in range(0, len(stream), step):
            found += framer.feed(stream[start : start + step])
        assert found == [b"one", b"", b"three"]
        assert not framer.inside


def test_framing_refuses_noise_and_size() -> None:
    with pytest.raises(Malformed):
        Framer().feed(b"GET / HTTP/1.1")
    for data in (b"\x0b12345\x1c\r", b"\x0b12345"):
        with pytest.raises(TooLarge):
            Framer(4).feed(data)
    assert Framer(5).feed(b"\x0b12345\x1c\r") == [b"12345"]
    with pytest.raises(Malformed):
        frame(b"a\x1cb")
