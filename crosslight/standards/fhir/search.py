"""The grammar of FHIR search (R4 3.1.1): parameters into criteria.

What is not understood is refused, never ignored. Pure: knows what a resource can be asked for
(:class:`ResourceSpec`, the same table that makes the routes and the CapabilityStatement), not how it is
found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from crosslight.standards.fhir.resource_spec import ParamSpec, ResourceSpec
from crosslight.standards.fhir.times import DateValue, parse_date
from crosslight.standards.problem import CrosslightError, Invalid, TooLarge

MAX_PARAMETERS = 64
MAX_VALUES = 100
MAX_BYTES = 8192  # of all parameters together: the link to the next page must fit in a request line


@dataclass(frozen=True, slots=True)
class TokenValue:
    """``system|code``. ``system`` None: any; '': explicitly none. ``code`` '': any of the system."""

    system: str | None
    code: str


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """``Type/id``, ``id`` or an absolute address of ours. ``type`` '' when nobody said."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class StringValue:
    """A value of a string parameter, its escapes undone."""

    text: str


@dataclass(frozen=True, slots=True)
class MissingValue:
    """``:missing=true|false``."""

    missing: bool


Value = TokenValue | ReferenceValue | StringValue | DateValue | MissingValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One parameter as given: any of its values must match.

    ``by_identifier`` is ``:identifier`` or a ``.identifier`` chain.
    """

    name: str
    values: tuple[Value, ...]
    modifier: str = ""
    by_identifier: bool = False

    @property
    def negated(self) -> bool:
        """Whether it is ``:not``."""
        return self.modifier == "not"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A search as understood."""

    criteria: tuple[Criterion, ...] = ()
    count: int = 50
    sort: tuple[str, ...] = ()  # keys, '-' before those that descend
    summary: Literal["false", "count", "data", "text"] = "false"
    total: Literal["none", "estimate", "accurate"] = "none"
    includes: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    pretty: bool = False
    ignored: tuple[str, ...] = ()  # parameters that a lenient search did not use
    noted: tuple[str, ...] = ()  # parameters that narrow nothing and were not used
    pairs: tuple[tuple[str, str], ...] = ()  # as used, for the links of a page

    def of(self, *names: str) -> tuple[Criterion, ...]:
        """The criteria on these parameters."""
        return tuple(c for c in self.criteria if c.name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """How parameters are read here."""

    zone: str  # IANA name: the local day of dates without a zone
    base: str = ""  # our own base address, for absolute references
    lenient: bool = False
    default_count: int = 50
    max_count: int = 200
    sensitive: frozenset[str] = field(default=frozenset())


#: Asks how a total is counted: of fhirpy's count(). The total that is given is exact.
NO_FILTERS = frozenset({"_totalMethod"})
_NAME = re.compile(r"[A-Za-z_][\w.:=,|/-]{0,79}", re.ASCII)
_READ_CONTROLS = ("_format", "_pretty", "_elements", "_summary")


def split_escaped(text: str, separator: str) -> list[str]:
    """Split at ``separator`` where no backslash stands before it (R4 3.1.1.3.1); escapes are kept."""
    if "\\" not in text:
        return text.split(separator)
    parts, current, escaped = [], [], False
    for char in text:
        if escaped:
            current.append(char)
            escaped = False
        elif char == separator:
            parts.append("".join(current))
            current = []
        else:
            escaped = char == "\\"
            current.append(char)
    parts.append("".join(current))
    return parts


def unescape(text: str) -> str:
    r"""Undo ``\,`` ``\|`` ``\$`` and ``\\``; any other backslash stays as it is."""
    out, escaped = [], False
    for char in text:
        if escaped:
            out.append(char if char in ",|$\\" else "\\" + char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            out.append(char)
    return "".join(out) + ("\\" if escaped else "")


def escape(text: str) -> str:
    r"""Write ``\``, ``,``, ``|`` and ``$`` so that :func:`unescape` gives them back."""
    return "".join("\\" + char if char in ",|$\\" else char for char in text)


def parse_search(spec: ResourceSpec, pairs: Iterable[tuple[str, str]], grammar: Grammar) -> SearchRequest:
    """Read the parameters of a search, from a query string or a form.

    Raises:
        Invalid: naming the parameter: unknown (unless lenient), or with a value that cannot be read.
        TooLarge: for too many or too long ones.
    """
    reader = _Reader(spec, grammar)
    total = 0
    for count, (name, value) in enumerate(pairs):
        total += len(name.encode("utf-8", "replace")) + len(value.encode("utf-8", "replace"))
        if count >= MAX_PARAMETERS or total > MAX_BYTES:
            raise TooLarge(
                "The search is too long.", why=f"At most {MAX_PARAMETERS} parameters, {MAX_BYTES} bytes."
            )
        if "\0" in value:
            raise Invalid(
                f"{name[:80]} has a character that no value can have.",
                why="R4 2.24.0.1: no U+0000.",
                where=name[:80],
            )
        reader.read(name, value)
    return reader.done()


def parse_read(spec: ResourceSpec, pairs: Iterable[tuple[str, str]]) -> SearchRequest:
    """Read the parameters of a read (R4 3.1.0.2: ``_summary`` and ``_elements`` apply to it too).

    Raises:
        Invalid: naming the parameter: a read has no others.
        TooLarge: as of a search.
    """
    given = tuple(pairs)
    for name, value in given:
        if name not in _READ_CONTROLS or (name == "_summary" and value == "count"):
            shown = f"{name}={value}" if name == "_summary" else name
            raise Invalid(
                f"{spec.type} is not read by {_said(shown)}.",
                why="One resource is read as it is, whole or cut.",
                todo=f"Known: {', '.join(_READ_CONTROLS)}; search for {spec.type} to use more.",
                where=_said(name),
                fhir_code="not-supported",
            )
    return parse_search(spec, given, Grammar(zone="UTC"))


def _said(name: str) -> str:
    """A parameter's name as it is said back; what could be no name is not repeated, it may be a person's."""
    return name if _NAME.fullmatch(name) else "a parameter of that name"


class _Reader:
    def __init__(self, spec: ResourceSpec, grammar: Grammar) -> None:
        self.spec, self.grammar = spec, grammar
        self.criteria: list[Criterion] = []
        self.controls: dict[str, str] = {}
        self.includes: list[str] = []
        self.ignored: list[str] = []
        self.noted: list[str] = []
        self.pairs: list[tuple[str, str]] = []

    def read(self, name: str, value: str) -> None:
        if name in ("_format", "_pretty", "_count", "_sort", "_summary", "_total", "_elements"):
            if name in self.controls:
                raise Invalid(f"{name} is given twice.", where=name)
            self.controls[name] = value
        elif name in NO_FILTERS:
            self.noted.append(name)
        elif name == "_include":
            source, _, kind = value.rpartition(":") if value.count(":") == 2 else (value, "", "")
            if source not in self.spec.includes or kind not in ("", self.spec.includes[source]):
                self._unknown(f"_include={value[:64]}", f"Known: {', '.join(self.spec.includes) or 'none'}.")
                return
            self.includes.append(source)
        else:
            # R4 3.1.1: a parameter without value is not there; but whom it is about is never left open
            if value == "":
                param = self.spec.param(name.partition(".")[0].partition(":")[0])
                if param is not None and param.type == "reference" and "Patient" in param.targets:
                    raise Invalid(
                        f"{_said(name)} has no value.",
                        todo="Give it one, or leave it out.",
                        where=_said(name),
                    )
                return
            criterion = self._criterion(name, value)
            if criterion is None:
                return
            self.criteria.append(criterion)
        self.pairs.append((name, value))

    def _unknown(self, name: str, todo: str) -> None:
        if not self.grammar.lenient:
            raise Invalid(
                f"{self.spec.type} cannot be searched by {_said(name)}.",
                why="A filter that is quietly dropped would answer with more than was asked for.",
                todo=f"{todo} With Prefer: handling=lenient it is left out and the answer says so.",
                where=_said(name),
                fhir_code="not-supported",
            )
        self.ignored.append(_said(name))

    def _criterion(self, raw_name: str, raw: str) -> Criterion | None:
        head, dot, chain = raw_name.partition(".")
        name, _, modifier = head.partition(":")
        param = self.spec.param(name)
        known = f"Known: {', '.join(sorted(p.name for p in self.spec.params))}."
        if param is None:
            self._unknown(raw_name, known)
            return None
        by_identifier = False
        if param.type == "reference" and modifier in param.targets:
            by_identifier, modifier = (chain == "identifier"), ""
            if dot and not by_identifier:
                self._unknown(raw_name, "The only chain is .identifier.")
                return None
        elif dot:
            if param.type != "reference" or chain != "identifier" or modifier:
                self._unknown(raw_name, "The only chain is .identifier.")
                return None
            by_identifier = True
        elif param.type == "reference" and modifier == "identifier":
            by_identifier, modifier = True, ""
        if modifier and modifier != "missing" and modifier not in param.modifiers:
            self._unknown(
                raw_name, f"Modifiers of {name}: {', '.join(sorted({*param.modifiers, 'missing'}))}."
            )
            return None
        values = tuple(
            self._value(param, modifier, by_identifier, part) for part in self._parts(raw_name, raw)
        )
        return Criterion(name=name, modifier=modifier, by_identifier=by_identifier, values=values)

    def _parts(self, name: str, raw: str) -> list[str]:
        parts = [part for part in split_escaped(raw, ",") if part]
        if not parts:
            raise Invalid(f"{name} has no value.", where=name)
        if len(parts) > MAX_VALUES:
            raise TooLarge(f"{name} has too many values.", why=f"At most {MAX_VALUES}.", where=name)
        return parts

    def _value(self, param: ParamSpec, modifier: str, by_identifier: bool, part: str) -> Value:
        if modifier == "missing":
            if part not in ("true", "false"):
                raise Invalid(f"{param.name}:missing is true or false.", where=param.name)
            return MissingValue(part == "true")
        if by_identifier or param.type in ("token", "uri"):
            return _token(part)
        if param.type == "date":
            return parse_date(part, self.grammar.zone, param.name)
        if param.type == "reference":
            return self._reference(param, part)
        return StringValue(unescape(part))

    def _reference(self, param: ParamSpec, part: str) -> ReferenceValue:
        text = unescape(part)
        if self.grammar.base and text.startswith(self.grammar.base + "/"):
            text = text[len(self.grammar.base) + 1 :]
        kind, slash, key = text.rpartition("/")
        if slash and kind not in param.targets:
            raise Invalid(
                f"{param.name} must be a reference to {' or '.join(param.targets)} on this server.",
                where=param.name,
                fhir_code="value",
            )
        return ReferenceValue(kind, key)

    def done(self) -> SearchRequest:
        count = self._count()
        summary = self._choice("_summary", "false", ("false", "count", "data", "true", "text"))
        if summary == "true":  # every element of the resources here is in their summaries (R4 3.1.1.5.8)
            summary = "data"
        if summary == "text" and (self.includes or "_elements" in self.controls):
            raise Invalid(
                "_summary=text stands alone.",
                why="R4 3.1.1.5.8: it is not mixed with _include; and _elements says otherwise.",
                todo="Leave one out.",
                where="_summary",
                fhir_code="value",
            )
        return SearchRequest(
            criteria=tuple(self.criteria),
            count=min(count, self.grammar.max_count),
            sort=self._sort(),
            summary="count" if count == 0 else summary,  # type: ignore[arg-type]  # a choice of the grammar
            total=self._choice("_total", "none", ("none", "estimate", "accurate")),  # type: ignore[arg-type]  # one of them
            includes=tuple(dict.fromkeys(self.includes)),
            elements=tuple(e.strip() for e in self.controls.get("_elements", "").split(",") if e.strip()),
            pretty=self._choice("_pretty", "false", ("true", "false")) == "true",
            ignored=tuple(dict.fromkeys(self.ignored)),
            noted=tuple(dict.fromkeys(self.noted)),
            pairs=tuple(self.pairs),
        )

    def _count(self) -> int:
        text = self.controls.get("_count", "")
        if not text:
            return self.grammar.default_count
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise Invalid("_count must be a whole number.", where="_count", fhir_code="value")
        return int(text)

    def _sort(self) -> tuple[str, ...]:
        wanted = self.controls.get("_sort", "")
        keys = tuple(dict.fromkeys(key.strip() for key in wanted.split(",") if key.strip()))
        if all(key.removeprefix("-") in self.spec.sorts for key in keys):
            return keys or self.spec.default_sort
        try:
            sorts = ", ".join(self.spec.sorts)
            known = f"Known: {sorts}, each also with '-' before it." if sorts else "Known: none."
            self._unknown(f"_sort={wanted[:64]}", known)
        except CrosslightError as error:
            error.where = "_sort"
            raise
        return self.spec.default_sort

    def _choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.controls.get(name, default)
        if value in allowed:
            return value
        self._unknown(f"{name}={value[:64]}", f"Known: {', '.join(allowed)}.")
        return default


def _token(part: str) -> TokenValue:
    pieces = split_escaped(part, "|")
    if len(pieces) == 1:
        return TokenValue(None, unescape(pieces[0]))
    return TokenValue(unescape(pieces[0]), unescape("|".join(pieces[1:])))
