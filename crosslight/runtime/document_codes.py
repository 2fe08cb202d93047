"""Configuration of the codes of a study's DocumentEntry by its procedure.

Read by a registry, and by a node without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.standards.problem import ConfigError, Invalid
from crosslight.standards.region import ProcedureCodes


@dataclass(frozen=True, slots=True)
class ProcedureCodesConfig:
    """One ``[[…procedure_codes]]``: of those that fit a study, the first to say an attribute decides it."""

    procedure: str = setting(
        "*",
        "Pattern of a procedure code, of its meaning, or of the study's description; case does not count, "
        "* is any text, ? any character.",
        example="CT*",
    )  # fmt: skip
    type_code: str = setting(
        "",
        "typeCode, as code^display^OID of its scheme; empty: not decided here.",
        example="18747-6^CT study^2.16.840.1.113883.6.1",
    )
    confidentiality: str = setting(
        "", "confidentialityCode of HL7's table: N, R, V or U; empty: not decided here.", example="R"
    )


def procedure_codes(sections: Iterable[ProcedureCodesConfig], where: str) -> tuple[ProcedureCodes, ...]:
    """The table as a value.

    Raises:
        ConfigError: naming the row that cannot be used.
    """
    rows = []
    for at, section in enumerate(sections):
        try:
            row = ProcedureCodes(
                procedure=section.procedure,
                type_code=section.type_code,
                confidentiality=section.confidentiality,
            )
            row.check()
        except Invalid as error:
            raise ConfigError(f"{where}[{at}]: {error.what}", why=error.why, where=f"{where}[{at}]") from None
        rows.append(row)
    return tuple(rows)
