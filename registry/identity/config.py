"""[identity] of registry.toml: who says who is who, and what says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crosslight.runtime.config import setting
from crosslight.standards.access import Principal
from crosslight.standards.birth_date import PLACEHOLDERS, birth_date
from crosslight.standards.names import search_key
from crosslight.standards.problem import ConfigError
from registry.identity.header import PLACEHOLDER_NAMES, Placeholders


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """[identity]: sources of patient data, and what they write where they know nothing."""

    feeds: tuple[str, ...] = setting(
        [],
        "Sources whose patient feeds (ITI-8) describe patients: system:NAME, member:CODE; open in an open"
        " demo. Headers of images never change what such a source feeds. What any other source feeds is taken"
        " as a header is.",
    )
    traced_from: tuple[str, ...] = setting(
        [],
        "Sources whose word counts that a national number is traced and verified: system:NAME, member:CODE,"
        " open.",
    )
    placeholder_birth_dates: tuple[str, ...] = setting(
        [],
        "Dates (YYYYMMDD) that sources write where no date of birth is known, besides 19000101, 18000101,"
        " 11111111, 99991231.",
    )
    placeholder_names: tuple[str, ...] = setting(
        [],
        "Words that sources write where a name is not known, besides the usual ones (unknown, trauma, baby,"
        " newborn).",
    )

    def rules(self) -> IdentityRules:
        """As a value.

        Raises:
            ConfigError: for a date that is none.
        """
        for text in self.placeholder_birth_dates:
            if len(birth_date(text)) != 8:
                raise ConfigError(
                    f"{text!r} is no date.", todo="Write YYYYMMDD.", where="identity.placeholder_birth_dates"
                )
        placeholders = Placeholders(
            birth_dates=frozenset(
                (*PLACEHOLDERS, *(birth_date(text) for text in self.placeholder_birth_dates))
            ),
            names=frozenset((*PLACEHOLDER_NAMES, *(search_key(name) for name in self.placeholder_names)))
            - {""},
        )
        return IdentityRules(frozenset(self.feeds), frozenset(self.traced_from), placeholders)


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """Whose word counts for what."""

    feeds: frozenset[str] = frozenset()
    traced_from: frozenset[str] = frozenset()
    placeholders: Placeholders = field(default_factory=Placeholders)


def source_of(principal: Principal) -> str:
    """The name by which [identity] calls who sent something."""
    if principal.evidence == "open" and principal.member is None:
        return "open"
    return f"member:{principal.organisation}" if principal.member is not None else f"system:{principal.name}"


def is_named(principal: Principal, names: Iterable[str]) -> bool:
    """Whether ``principal`` is one of the sources ``names``."""
    return source_of(principal) in set(names)
