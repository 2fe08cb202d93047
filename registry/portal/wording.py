"""What a clinician reads: names, dates, ages, numbers and states in words. Pure.

As NHS CUI shows them (Patient Banner, Date Display).

Text from outside is cleaned for display (control and direction characters), never shortened. Unknown is said
in words.
"""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from zoneinfo import ZoneInfo

from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, PersonName, StudyTime
from registry.ask.question import Answer

UNKNOWN = "Not known"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SEX = {"M": "Male", "F": "Female", "O": "Other"}
_DIRECTION = {0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_LABELS: dict[str, str] = {NHS_NUMBER_OID: "NHS No.", CHI_OID: "CHI No."}

#: BodyPartExamined (PS3.16 Annex L) in words where lower-casing does not do it.
_BODY = {
    "ABDOMENPELVIS": "Abdomen and pelvis",
    "CHESTABDOMEN": "Chest and abdomen",
    "CHESTABDPELVIS": "Chest, abdomen and pelvis",
    "CSPINE": "Cervical spine",
    "TSPINE": "Thoracic spine",
    "LSPINE": "Lumbar spine",
    "LSSPINE": "Lumbosacral spine",
    "WHOLEBODY": "Whole body",
    "TMJ": "Temporomandibular joint",
    "SIJOINT": "Sacroiliac joint",
    "IAC": "Internal auditory canal",
    "HEADNECK": "Head and neck",
    "CTSPINE": "Cervicothoracic spine",
    "TLSPINE": "Thoracolumbar spine",
}


def plain(text: str) -> str:
    """``text`` for one line: control characters to spaces, direction overrides out, outer space trimmed."""
    if text.isprintable():  # no such character is
        return text.strip()
    kept = [
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if ord(c) not in _DIRECTION
    ]
    return "".join(kept).strip()


def person_name(name: PersonName) -> str:
    """``FAMILY, Given Middle (Title)``; the alphabetic group, or what stands for it."""
    family, given = plain(name.family).upper(), plain(name.given)
    rest = " ".join(part for part in (given, plain(name.middle), plain(name.suffix)) if part)
    shown = ", ".join(part for part in (family, rest) if part) or "Name not known"
    return f"{shown} ({plain(name.prefix)})" if name.prefix else shown


def other_name(name: PersonName) -> str:
    """The ideographic form, where there is one beside the alphabetic."""
    groups = name.pn.split("=")
    if len(groups) < 2 or not groups[0].strip("^ "):
        return ""
    return " ".join(plain(part) for part in groups[1].split("^") if part.strip())


def day(da: str) -> str:
    """``dd-Mmm-yyyy`` of a DA, or as much of it as is there."""
    digits = da.replace("-", "").replace(".", "").strip()
    if not digits.isascii() or not digits.isdecimal() or len(digits) not in (4, 6, 8):
        return ""
    month = int(digits[4:6]) if len(digits) >= 6 else 0
    if len(digits) == 4:
        return digits
    if not 1 <= month <= 12:
        return ""
    named = f"{_MONTHS[month - 1]}-{digits[:4]}"
    return f"{digits[6:8]}-{named}" if len(digits) == 8 else named


def as_date(da: str) -> date | None:
    """A whole DA as a date."""
    try:
        return date(int(da[:4]), int(da[4:6]), int(da[6:8])) if len(da) == 8 else None
    except ValueError:
        return None


def age(birth: date, today: date) -> str:
    """Age as the CUI shows it.

    In days to 4 weeks, weeks to a year, months to two, years and months to 18, then years.
    """
    if birth > today:
        return ""
    days = (today - birth).days
    months = (today.year - birth.year) * 12 + today.month - birth.month - (today.day < birth.day)
    if days < 28:
        return f"{days}d"
    if months < 12:
        return f"{days // 7}w {days % 7}d" if days % 7 else f"{days // 7}w"
    if months < 24:
        return f"{months}m"
    if months < 18 * 12:
        return f"{months // 12}y {months % 12}m" if months % 12 else f"{months // 12}y"
    return f"{months // 12}y"


def born(birth_date: str, today: date) -> str:
    """``dd-Mmm-yyyy (age)``."""
    known = as_date(birth_date)
    years = age(known, today) if known else ""
    return (f"{day(birth_date)} ({years})" if years else day(birth_date)) or UNKNOWN


def sex(code: str) -> str:
    """The sex in words, for a code of Patient's Sex (PS3.3 C.7.1.1)."""
    return _SEX.get(code, UNKNOWN)


def number_label(authority: str, region: Region) -> str:
    """The banner's label for numbers of ``authority``."""
    if authority == region.national_authority and region.national_label:
        return region.national_label
    return _LABELS.get(authority, "National No.")


def number(identifier: Identifier) -> str:
    """Ten digits as 3-3-4, anything else as it is."""
    value = plain(identifier.value)
    return (
        f"{value[:3]} {value[3:6]} {value[6:]}"
        if len(value) == 10 and value.isascii() and value.isdecimal()
        else value
    )


def local_number(patient: Patient) -> str:
    """A record's own number as people know it.

    Of an outside study that is the one it came with, and who issued it.
    """
    kind, original = number_of(patient)
    if kind == "own":
        return number(patient.local)
    if original is None:
        return "no number" if kind == "none" else "a number of another organisation"
    return f"{plain(original.value)} (issued by {plain(original.namespace or original.authority)})"


def body_part(code: str) -> str:
    """A body part in words."""
    text = plain(code)
    return _BODY.get(text.upper().replace(" ", ""), text.capitalize() if text.isupper() else text)


def count(n: int, singular: str, plural: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def study_day(time: StudyTime) -> str:
    """The day of a study as its source wrote it (D22), or that it is not known."""
    return day(time.date) or "No date"


def study_clock(time: StudyTime) -> str:
    """``hh:mm`` as its source wrote it."""
    digits = time.time.replace(":", "")
    return f"{digits[:2]}:{digits[2:4]}" if len(digits) >= 4 and digits[:4].isdecimal() else ""


def nobody(answer: Answer, word: str, *, by_number: bool) -> str:
    """Why it is not certain that there is nothing of whom was searched for.

    '' where it is certain who is meant.
    """
    if answer.naming.misread:
        return "Nobody can have this number, so nothing can be said of any imaging."
    if answer.naming.certain:
        return ""
    if by_number:
        return (
            f"No {word} has told this network of a patient with this number. This does not show that there is"
            " no imaging."
        )
    return (
        f"A {word} may have written the name or the date in another way. This does not show that there is no"
        " imaging."
    )


def unread(answer: Answer) -> str:
    """What the index holds of a patient and cannot list; '' where that is nothing."""
    if not answer.unread:
        return ""
    documents = count(answer.unread, "imaging document")
    if answer.unread == 1:
        return f"There is {documents} of this patient whose study is not known here."
    return f"There are {documents} of this patient whose studies are not known here."


def moment(when: datetime, now: datetime, zone: str) -> str:
    """``hh:mm`` today, with the day before that, in the region's zone."""
    local, today = when.astimezone(ZoneInfo(zone)), now.astimezone(ZoneInfo(zone)).date()
    clock = local.strftime("%H:%M")
    return clock if local.date() == today else f"{day(local.strftime('%Y%m%d'))} {clock}"


def instant(when: datetime, zone: str) -> str:
    """``dd-Mmm-yyyy hh:mm``, in the region's zone: for paper."""
    local = when.astimezone(ZoneInfo(zone))
    return f"{day(local.strftime('%Y%m%d'))} {local.strftime('%H:%M')}"


def listing(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
