"""FrozenRecord: a frozen value of the standards that is decoded and encoded in C (ADR 0049).

A record is made by its constructor or by :func:`changed`, and read from a wire by a decoder of its type
alone. Nothing else is here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec


class FrozenRecord(msgspec.Struct, frozen=True, gc=False):
    """A frozen value.

    The garbage collector does not look at it: a record holds texts, numbers, records and plain JSON, which
    never lead back to it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is pickled: by names of this package alone, which a child's answer may hold (D27)."""
        return made, (type(self), msgspec.structs.asdict(self))


def made(kind: type[Any], values: dict[str, Any]) -> Any:
    """A record of its fields; nothing else is made here, whoever asks.

    Raises:
        TypeError: for another kind of thing, or fields that it does not have.
    """
    if not issubclass(kind, FrozenRecord):
        raise TypeError("no record")
    return kind(**values)


R = TypeVar("R", bound=FrozenRecord)


def changed(record: R, /, **values: Any) -> R:
    """``record`` with other values of these fields: what ``dataclasses.replace`` is for a dataclass.

    Raises:
        TypeError: for a field that it does not have.
    """
    return msgspec.structs.replace(record, **values)
