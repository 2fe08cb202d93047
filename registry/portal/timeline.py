"""From an answer to what the page shows: the banner, and a row for each study with its holders. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from crosslight.runtime.large_answers import in_steps
from crosslight.standards.ids import MemberId
from crosslight.standards.region import Region
from crosslight.standards.study import SeriesRecord, StudyRecord
from registry.ask.question import Answer
from registry.gateway.agreement import agree
from registry.identity.model import PatientRecord, Person, RecordKey
from registry.index.model import Holding
from registry.members.model import Directory
from registry.members.standing import foremost
from registry.portal import series_contents
from registry.portal import wording as words
from registry.portal.coverage_wording import Sites

_NEVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A labelled number in the banner."""

    label: str
    value: str
    at: str = ""  # whose it is, of a local one

    def __str__(self) -> str:
        return f"{self.label} {self.value}" + (f" at {self.at}" if self.at else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLine:
    """One trust's own record of the patient, for "details differ"."""

    trust: str
    number: str
    name: str
    born: str
    sex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    """The patient banner (CUI Patient Banner)."""

    name: str
    other_name: str
    born: str
    sex: str
    numbers: tuple[Number, ...]
    differs: bool
    records: tuple[RecordLine, ...]
    disputed: bool  # this record claims a number that it does not hold
    in_doubt: str = ""  # the trust under whose number studies came whose headers say another; '' for none
    wholly: bool = False  # all of it is in doubt

    @property
    def whose(self) -> str:
        """Whose a picture is, written on it: the name, and the first number that is known."""
        number = next((n for n in self.numbers if n.value != words.UNKNOWN), self.numbers[0])
        doubt = ", disputed" if self.disputed else ", in doubt" if self.wholly else ""
        return f"{self.name}, {number}{doubt}"

    @property
    def doubtful(self) -> bool:
        """Whether nothing of this is beyond doubt."""
        return self.disputed or self.wholly

    @property
    def title(self) -> str:
        """For the browser's tab: no patient in it, for tabs and histories are seen by others."""
        return "Patient imaging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A study as one trust holds it."""

    code: str
    trust: str
    record: StudyRecord
    counts: str  # in words
    pictures: bool  # whether some series has any
    arriving: bool
    road: bool  # whether there is any way to its images
    opens: bool
    opening: str
    first: bool  # whether it may be shown unasked: an outside source's beside a member's may not

    @property
    def lines(self) -> tuple[SeriesLine, ...]:
        """Its series."""
        return tuple(_line(series) for series in self.record.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLine:
    """A series, for the viewer."""

    uid: str
    number: str
    modality: str
    description: str
    counts: str  # in words
    pictures: bool  # whether it has images to show
    none: str  # why not


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A study on the timeline; ``copies`` are its holders."""

    uid: str
    day: str
    clock: str
    year: str
    modalities: tuple[str, ...]
    description: str
    body_parts: str
    counts: str
    copies: tuple[Copy, ...]
    arriving: bool
    conflict: bool
    choice: bool  # copies do not agree, and whoever looks says which to show
    partial: bool  # only an entry is known of it
    in_doubt: str = ""  # whose it is by its header, where that is in doubt

    def whose(self, banner: Banner) -> str:
        """Whose the study's pictures are, written on them."""
        return f"{self.in_doubt}, in doubt" if self.in_doubt else banner.whose

    @property
    def apart(self) -> bool:
        """Whether a copy is opened at its own holder, and never another in its place."""
        return self.conflict or self.choice

    @property
    def default(self) -> Copy | None:
        """The copy to show unasked: of those that agree the first that opens. None: it is for the reader.

        Never an outside source's where a member holds the study.
        """
        if self.choice:
            return None
        return min(self.copies, key=lambda c: (not c.first, not c.road, not c.opens, c.code))

    def copy(self, code: str) -> Copy | None:
        """The copy at ``code``, else the default."""
        return next((c for c in self.copies if c.code == code), self.default)

    def root(self, copy: Copy) -> str:
        """The DICOMweb root to open it at.

        Where copies do not agree, the one trust's own and never another's (D1).
        """
        return f"/dicomweb/members/{copy.code}" if self.apart else "/dicomweb"

    @property
    def pictures(self) -> bool:
        """Whether there is something to look at."""
        return any(c.pictures for c in self.copies)

    @property
    def address(self) -> str:
        """Where its pictures are; '' where the reader has to choose first."""
        return f"{self.root(self.default)}/studies/{self.uid}" if self.default is not None else ""

    @property
    def opens(self) -> bool:
        """Whether some holder can be reached now."""
        return any(c.opens for c in self._asked)

    @property
    def _asked(self) -> list[Copy]:
        """The copies that are had from here: an outside source's beside a member's only by choice."""
        return [copy for copy in self.copies if copy.first or self.apart]

    @property
    def opening(self) -> str:
        """Availability in words."""
        if self.opens:
            return "Open now"
        if len(self.copies) == 1:
            return self.copies[0].opening
        return "; ".join(f"{c.trust}: {c.opening}" for c in self.copies)

    @property
    def holders(self) -> str:
        """Codes of the holders, for the script that follows their state."""
        return " ".join(c.code for c in self._asked)


def banner_of(person: Person, directory: Directory, region: Region, today: date) -> Banner:
    """The banner of a person."""
    patient = person.banner
    numbers, own = list[Number](), person.domain_id
    if own.authority in region.nationals:
        numbers = [Number(label=words.number_label(own.authority, region), value=words.number(own))]
    else:
        if region.national_authority:
            label = words.number_label(region.national_authority, region)
            numbers.append(Number(label=label, value=words.UNKNOWN))
        numbers.append(_local(person.records[0], directory))
    records = tuple(
        RecordLine(
            trust=_trust(directory, r.member, r.patient.local.authority),
            number=words.local_number(r.patient),
            name=words.person_name(r.patient.name),
            born=words.born(r.patient.birth_date, today),
            sex=words.sex(r.patient.sex),
        )
        for r in person.records
        if r.active
    )
    return Banner(
        name=words.person_name(patient.name),
        other_name=words.other_name(patient.name),
        born=words.born(patient.birth_date, today),
        sex=words.sex(patient.sex),
        numbers=tuple(numbers),
        differs=person.differs,
        records=records,
        disputed=any(r.disputed for r in person.records),
        in_doubt=next(
            (_trust(directory, r.member, r.patient.local.authority) for r in person.records if r.in_doubt), ""
        ),
        wholly=all(r.in_doubt for r in person.records),
    )


def _local(record: PatientRecord, directory: Directory) -> Number:
    """A record's own number, with whose it is."""
    trust = _trust(directory, record.member, record.patient.local.authority)
    return Number(label="Local No.", value=words.local_number(record.patient), at=trust)


def _trust(directory: Directory, member_id: MemberId | None, authority: str) -> str:
    member = directory.by_authority(authority) if member_id is None else directory.by_id(member_id)
    return words.plain(member.name) if member else "Another organisation"


def rows_of(answer: Answer, directory: Directory, sites: Sites) -> list[Row]:
    """One row for each study, newest first, undated last; copies in the order of their trusts' codes."""
    studies: dict[str, list[Holding]] = defaultdict(list)
    for holding in in_steps(answer.holdings):
        if holding.state == "approved":
            studies[holding.study_uid].append(holding)
    doubts = {
        r.key: f"{words.person_name(r.patient.name)}, {_local(r, directory)}"
        for person in answer.persons
        for r in person.records
        if r.in_doubt
    }
    dated = [
        (_newest(holdings), _row(holdings, directory, sites, doubts))
        for holdings in in_steps(studies.values())
    ]
    dated.sort(key=lambda pair: (pair[0], pair[1].uid), reverse=True)
    return [row for _, row in dated]


def by_year(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Rows under their years, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.year, []).append(row)
    return list(groups.items())


def _newest(holdings: list[Holding]) -> datetime:
    intervals = [i for h in holdings if (i := h.record.time.interval()) is not None]
    return max((low for low, _ in intervals), default=_NEVER)


def _fullness(holding: Holding) -> tuple[int, int, int]:
    detail = {"entry": 0, "manifest": 1, "full": 2}[holding.record.detail]
    return (detail, holding.record.n_instances, -int(holding.member))


def _row(holdings: list[Holding], directory: Directory, sites: Sites, doubts: Mapping[RecordKey, str]) -> Row:
    first = foremost(holdings, lambda h: directory.by_id(h.member))
    shown = [h.record for h in first if (m := directory.by_id(h.member)) is None or m.shows_images]
    choice = len(shown) > 1 and not agree(shown)
    best = (min(first, key=lambda h: h.member) if choice else max(first, key=_fullness)).record
    copies = [_copy(h, directory, sites, first=any(h is other for other in first)) for h in holdings]
    shown_copy = next(copy for copy in copies if copy.record is best)
    description = words.plain(best.description) or next(
        (words.plain(c.meaning) for c in best.procedure_codes if c.meaning), ""
    )
    return Row(
        uid=best.study_uid,
        day=words.study_day(best.time),
        clock=words.study_clock(best.time),
        year=best.time.date[:4] if words.day(best.time.date) else "Date not known",
        modalities=best.headline_modalities,
        description=description or "No description",
        body_parts=words.listing([words.body_part(b) for b in best.body_sites]),
        counts="Copies differ" if choice else shown_copy.counts,
        copies=tuple(sorted(copies, key=lambda c: c.code)),
        arriving=any(h.record.progress == "arriving" for h in holdings),
        conflict=any(h.conflict for h in holdings),
        choice=choice,
        partial=best.detail == "entry",
        in_doubt=next((doubts[h.whose] for h in holdings if h.whose in doubts), ""),
    )


def _copy(holding: Holding, directory: Directory, sites: Sites, *, first: bool) -> Copy:
    record, contents = holding.record, _contents(holding.record)
    member = directory.by_id(holding.member)
    code = member.code if member else holding.publication.source.code
    site = sites.by_code(code)
    return Copy(
        code=code,
        trust=words.plain(member.name if member else holding.publication.source.name) or code,
        record=record,
        counts=f"{words.count(record.n_series, 'series', 'series')}, {series_contents.in_words(contents)}",
        pictures=series_contents.has_pictures(contents),
        arriving=record.progress == "arriving",
        road=member is None or member.shows_images,
        opens=site.opens if site else False,
        opening=site.opening if site else "Not known whether it opens",
        first=first,
    )


def _contents(record: StudyRecord) -> dict[str, int]:
    """What the whole study holds; where its series are not known, all it has counts as images."""
    known = series_contents.total(series_contents.contents_of(series) for series in record.series)
    unknown = record.n_instances - sum(known.values())
    return series_contents.total([known, {series_contents.IMAGE: unknown}]) if unknown > 0 else known


def _line(series: SeriesRecord) -> SeriesLine:
    objects = series_contents.contents_of(series)
    pictures = series_contents.has_pictures(objects)
    return SeriesLine(
        uid=series.series_uid,
        number=words.plain(series.number),
        modality=words.plain(series.modality),
        description=words.plain(series.description) or words.body_part(series.body_site),
        counts=series_contents.in_words(objects),
        pictures=pictures,
        none="" if pictures else series_contents.nothing_to_show(objects),
    )
