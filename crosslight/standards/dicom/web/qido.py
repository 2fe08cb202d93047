"""The query grammar of QIDO-RS (PS3.18 8.3.4, 10.6): parameters of a URL into a query over DICOM JSON rows.

Pure: a store narrows its rows with the helpers of :class:`QidoQuery` (``equal_to``, ``interval``) as far as
its indexes go, and :func:`matches` decides (attribute matching, PS3.4 C.2.2.2). Fuzzy matching is not built:
it is answered literally with a warning, as 8.3.4.2 allows. A matching key that is not understood is refused,
never ignored: a filter that is dropped without a word answers with other patients' studies. What narrows
nothing is ignored with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from crosslight.standards.dicom.web.json import Attributes, keyword_of, text_of, vr_of
from crosslight.standards.dicom.web.matching import (
    NUMBER_VRS,
    TEMPORAL,
    WILD_VRS,
    Kind,
    Match,
    bounds,
    matches_row,
)
from crosslight.standards.dicom.web.parameters import ignored_warning, may_be_ignored
from crosslight.standards.dicom.web.qido_attributes import (
    KEYS,
    MOMENTS,
    Level,
    defaults,
    known_path,
    path_of,
    paths_of,
    tags_of,
)
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid, TooLarge

_BEGINS = frozenset({"StudyDate", "StudyTime"})

#: Keys of which one, given whole, names a patient or an object.
_NAMES_SOMEBODY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber")

MAX_PARAMETERS = 64
MAX_VALUES = 1000
MAX_VALUE_CHARS = 16384
MAX_RESULTS = 5000
_PRIVATE = re.compile(r"[0-9A-Fa-f]{3}[13579BDFbdf][1-9A-Fa-f][0-9A-Fa-f]{3}\Z")
_CREATOR = re.compile(r"[0-9A-Fa-f]{3}[13579BDFbdf]00[1-9A-Fa-f][0-9A-Fa-f]\Z")
#: PS3.18 8.3.4.2: what an answer says when it matched literally.
FUZZY_WARNING = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


@dataclass(frozen=True, slots=True, kw_only=True)
class QidoQuery:
    """A search: what must match, what is to be returned, and which page."""

    level: Level
    matches: tuple[Match, ...] = ()
    include: frozenset[str] = frozenset()  # tags
    include_all: bool = False
    limit: int = MAX_RESULTS
    offset: int = 0
    warnings: tuple[str, ...] = ()  # texts for Warning: 299 headers

    @classmethod
    def parse(
        cls,
        level: Level,
        params: Iterable[tuple[str, str]],
        *,
        keys: Iterable[str] | None = None,
        max_results: int = MAX_RESULTS,
        moments: bool = True,
    ) -> Self:
        """Read the parameters of a search.

        Args:
            level: What is searched for.
            params: Decoded names and values, repeated names repeated (``request.query.items()``).
            keys: Keywords (``Sequence.Item`` for nested ones) that can be matched; by default those of
                ``level``.
            max_results: Upper bound of ``limit``, and its default.
            moments: Ranges of a date and its time are one range of moments (always so in QIDO-RS; by C-FIND
                where it was agreed to).

        Raises:
            Invalid: naming the parameter, for one that is unknown, ill-formed or repeated.
            TooLarge: for too many or too long ones.
        """
        known = paths_of(KEYS[level] if keys is None else tuple(keys))
        by_path: dict[tuple[str, ...], Match] = {}
        include: set[str] = set()
        query = cls(level=level, limit=max_results)
        seen: set[str] = set()
        ignored: list[str] = []
        for count, (name, value) in enumerate(params):
            if count >= MAX_PARAMETERS or len(value) > MAX_VALUE_CHARS:
                raise TooLarge(
                    "The query is too long.", why=f"At most {MAX_PARAMETERS} parameters.", where=name[:64]
                )
            lower = name.lower()
            if lower == "includefield":
                include |= _includes(value)
                continue
            if lower in seen:
                raise Invalid(
                    f"Parameter {name[:64]} is repeated.",
                    why="PS3.18 8.3.4.1: one value each.",
                    where=name[:64],
                )
            seen.add(lower)
            if lower in ("limit", "offset"):
                number = _count(name, value)
                if lower == "limit":
                    query = replace(query, limit=min(number, max_results))
                else:
                    query = replace(query, offset=number)
            elif lower == "fuzzymatching":
                query = _fuzzy(query, value)
            elif may_be_ignored(name):
                ignored.append(name)
            elif _is_creator(name):
                _creator(name, value)
            else:
                match = _parse_match(name, value, known, level)
                if match.path in by_path:
                    raise Invalid(f"Parameter {name[:64]} is repeated under another name.", where=name[:64])
                by_path[match.path] = match
        told = (*query.warnings, *([ignored_warning(ignored)] if ignored else []))
        return replace(
            query,
            matches=_combined(by_path, moments=moments),
            include=frozenset(include - {"all"}),
            include_all="all" in include,
            warnings=told,
        )

    def within(self, **values: str) -> Self:
        """This query inside a resource: ``within(StudyInstanceUID=…)``; values as they stand, no patterns.

        A parameter that names the same attribute stays: both must match.
        """
        pinned = tuple(
            Match(path=path, vr=vr_of(path[-1]), kind="single", values=(value,))
            for path, value in ((known_path(keyword), value) for keyword, value in values.items())
            if value
        )
        return replace(self, matches=self.matches + pinned)

    def including(self, tags: Iterable[str]) -> Self:
        """This query with these tags in its rows too."""
        return replace(self, include=self.include | frozenset(tags))

    def page(self, offset: int, limit: int) -> Self:
        """A page of this query's rows."""
        return replace(self, offset=offset, limit=limit)

    def one_more(self) -> Self:
        """This query with a limit of one more row, by which a face sees that there are more."""
        return replace(self, limit=self.limit + 1)

    def of(self, keyword: str) -> Match | None:
        """The narrowest match on an attribute that is no universal one, or None."""
        path = known_path(keyword)
        narrowing = [m for m in self.matches if m.path == path and m.kind != "any"]
        return min(narrowing, key=lambda m: (m.kind != "single", len(m.values))) if narrowing else None

    def equal_to(self, keyword: str) -> tuple[str, ...] | None:
        """The values of which an attribute must have one (single value or list matching), or None.

        For PN the text is a pattern of its own (case and components): not given here.
        """
        match = self.of(keyword)
        if match is None or match.kind not in ("single", "list") or match.vr not in ("UI", "SH", "LO", "CS"):
            return None
        return match.values

    @property
    def names_somebody(self) -> bool:
        """Whether it is about a patient or an object that it names whole; else about whoever there is."""
        name, birth = self.of("PatientName"), self.of("PatientBirthDate")
        if name is not None and birth is not None and birth.kind == "single":
            return name.values[0].strip("*?^= ") != ""
        whole = (self.of(keyword) for keyword in _NAMES_SOMEBODY)
        return any(match is not None and match.kind in ("single", "list") for match in whole)

    def interval(self, keyword: str) -> tuple[str, str] | None:
        """The inclusive text bounds on a DA attribute ('' = open), or None."""
        match = self.of(keyword)
        if match is None or match.vr != "DA":
            return None
        return (match.low, match.high) if match.kind == "range" else (match.values[0], match.values[0])

    def returned(self) -> frozenset[str] | None:
        """The tags that rows are cut down to; None for all."""
        if self.include_all:
            return None
        return tags_of(defaults(self.level, self.matches)) | self.include | {m.path[0] for m in self.matches}

    def select(self, row: Mapping[str, Any]) -> Attributes:
        """The attributes of ``row`` that this query returns (10.6.3.3)."""
        keep = self.returned()
        return {tag: body for tag, body in row.items() if keep is None or tag in keep}


# --- parsing ------------------------------------------------------------------------------------------------


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise Invalid(f"{name} must be a whole number.", why="PS3.18 8.3.4.4.", where=name[:64])
    return int(value)


def _fuzzy(query: Any, value: str) -> Any:
    if value.lower() not in ("true", "false"):
        raise Invalid("fuzzymatching must be true or false.", why="PS3.18 8.3.4.2.", where="fuzzymatching")
    return replace(query, warnings=(*query.warnings, FUZZY_WARNING)) if value.lower() == "true" else query


def _includes(value: str) -> set[str]:
    tags: set[str] = set()
    for name in value.split(","):
        name = name.strip()
        if not name:  # a list that ends with a comma
            continue
        if name.lower() == "all":
            tags.add("all")
            continue
        if _is_private(name):
            # with its creator, which says whose it is
            tags |= {name.upper(), f"{name[:4]}00{name[4:6]}".upper()}
            continue
        path = path_of(name)
        if path is None:
            raise Invalid(
                "includefield names an unknown attribute.",
                why="PS3.18 8.3.4.3.",
                where=f"includefield={name[:64]}",
            )
        tags.add(path[0])
    if len(tags) > MAX_VALUES:
        raise TooLarge("includefield names too many attributes.", where="includefield")
    return tags


def _is_private(name: str) -> bool:
    """Whether it is the tag of a private attribute (PS3.5 7.8.1)."""
    return bool(_PRIVATE.match(name))


def _is_creator(name: str) -> bool:
    """Whether it is a private creator's tag: it says whose ``includefield``'s are (PS3.18 8.3.4.3)."""
    return bool(_CREATOR.match(name))


def _creator(name: str, value: str) -> None:
    if not 0 < len(value) <= 64 or any(char in "\\*?" or ord(char) < 32 for char in value):
        raise Invalid(
            f"{name[:64]} is no private creator.",
            why="PS3.5 7.8.1: one text of at most 64 characters.",
            where=name[:64],
        )


def _combined(by_path: Mapping[tuple[str, ...], Match], *, moments: bool) -> tuple[Match, ...]:
    """The matches, with ``moments`` ranges of a date and its time that have the same form as one range.

    Raises:
        Invalid: a range of times, or of moments, that ends before it begins.
    """
    matches = dict(by_path)
    for date_name, time_name in MOMENTS if moments else ():
        date, time = matches.get(known_path(date_name)), matches.get(known_path(time_name))
        if date is None or time is None or not date.kind == time.kind == "range":
            continue
        if (bool(date.low), bool(date.high)) != (bool(time.low), bool(time.high)):
            continue
        low = date.low + bounds(time.low, "TM")[0] if time.low else ""
        high = date.high + bounds(time.high, "TM")[1] if time.high else ""
        matches[time.path] = replace(time, date=date.tag, low=low, high=high)
    for match in matches.values():
        low, high = match.low, match.high
        if match.vr != "TM" or match.kind != "range" or not low or not high:
            continue
        first, last = (low, high) if match.date else (bounds(low, "TM")[0], bounds(high, "TM")[1])
        if first > last:
            raise Invalid(
                f"{match.keyword} ends before it begins.",
                todo="A range over midnight needs a range of dates beside it.",
                where=match.keyword,
            )
    return tuple(matches.values())


def _parse_match(name: str, value: str, known: Collection[tuple[str, ...]], level: Level) -> Match:
    path = path_of(name)
    if path is None:
        raise Invalid(
            f"Unknown parameter {name[:64]!r}.",
            why="It is no attribute keyword or tag of PS3.6.",
            todo="Use a keyword (PatientID), a tag (00100020), includefield, limit, offset or fuzzymatching.",
            where=name[:64],
        )
    if path not in known:
        raise Invalid(
            f"{name[:64]} cannot be matched in a search for {level} resources here.",
            why="Ignoring it would answer with more than was asked for.",
            todo="Keys: " + ", ".join(sorted(".".join(keyword_of(t) for t in p) for p in known)) + ".",
            where=name[:64],
        )
    vr = vr_of(path[-1])
    if any(ord(char) < 32 and char != "\x1b" for char in value):
        raise Invalid(f"{name[:64]} has control characters.", where=name[:64])
    kind, values, low, high = _criterion(name, value, vr)
    return Match(path=path, vr=vr, kind=kind, values=values, low=low, high=high)


def _criterion(name: str, value: str, vr: str) -> tuple[Kind, tuple[str, ...], str, str]:
    text = value.strip(" ") if vr not in ("LT", "ST", "UT") else value
    if text == "" or (text.strip("*") == "" and vr in WILD_VRS):
        return "any", (), "", ""
    if vr in TEMPORAL:
        return _temporal(name, text, vr)
    if vr in ("UI", "CS"):  # neither may hold a comma or backslash itself (PS3.5 6.2)
        values = tuple(dict.fromkeys(part.strip() for part in re.split(r"[,\\]", text) if part.strip()))
        if not values or len(values) > MAX_VALUES:
            raise Invalid(
                f"{name[:64]} has no value or too many.", why=f"At most {MAX_VALUES}.", where=name[:64]
            )
        if vr == "UI" and not all(is_uid(v) for v in values):
            raise Invalid(f"{name[:64]} is not a UID or a list of UIDs.", why="PS3.5 9.1.", where=name[:64])
        if len(values) > 1:
            return "list", values, "", ""
        text = values[0]
    if vr in NUMBER_VRS and not re.fullmatch(r"[+-]?[0-9.eE+-]{1,16}", text):
        raise Invalid(f"{name[:64]} is not a number.", where=name[:64])
    if vr in WILD_VRS and ("*" in text or "?" in text):
        return "wildcard", (text,), "", ""
    return "single", (text,), "", ""


def _temporal(name: str, text: str, vr: str) -> tuple[Kind, tuple[str, ...], str, str]:
    """Single value or range of DA, TM, DT (C.2.2.2.1, C.2.2.2.5)."""
    shape = TEMPORAL[vr]
    if shape.match(text):
        return "single", (text,), "", ""
    for cut in (i for i, char in enumerate(text) if char == "-"):
        low, high = text[:cut].strip(), text[cut + 1 :].strip()
        if (low or high) and all(not part or shape.match(part) for part in (low, high)):
            if low and high and vr == "DA" and bounds(low, vr)[0] > bounds(high, vr)[1]:
                raise Invalid(f"{name[:64]} ends before it begins.", where=name[:64])
            return "range", (), low, high
    form = {"DA": "YYYYMMDD", "TM": "HHMMSS.FFFFFF", "DT": "YYYYMMDDHHMMSS.FFFFFF&ZZXX"}[vr]
    raise Invalid(f"{name[:64]} is not {form} or a range of it.", why="PS3.4 C.2.2.2.5.", where=name[:64])


def matches(query: QidoQuery, row: Mapping[str, Any]) -> bool:
    """Whether every key of ``query`` matches ``row``.

    A DICOM JSON object with the attributes of its level and those above.

    A study without a date that can be read matches every date and time: it is never hidden by one (D22).
    """
    undated = day_of(row) == ""
    return all((undated and match.keyword in _BEGINS) or matches_row(match, row) for match in query.matches)


def day_of(row: Mapping[str, Any]) -> str:
    """StudyDate as YYYYMMDD; '' where there is none, or one that is no date."""
    day = text_of(row, "StudyDate").replace(".", "").replace("-", "")
    return day if TEMPORAL["DA"].match(day) else ""
