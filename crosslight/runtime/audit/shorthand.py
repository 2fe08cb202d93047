"""How an act is written in few bytes: what many acts say is written once, and named by a number.

The number of a text is a keyed hash of it, so that nobody can make two texts of one number, and no number has
to be looked up before it is written. What is named once is named anew in each year (UTC), so that it can go
when the acts of that year are over.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any, cast

import orjson
import zstandard

from crosslight.standards.problem import StorageError

NUMBER_BYTES = 8
KNOWN = 20_000  # names of a table and a year that are remembered to be written
FORMAT = 1  # of a body
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def in_ms(moment: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MS


def from_ms(milliseconds: int) -> datetime:
    """The inverse of :func:`in_ms`."""
    return _EPOCH + milliseconds * _MS


@cache
def year_end(year: int) -> int:
    """When a year is over, as :func:`in_ms`."""
    return in_ms(datetime(year + 1, 1, 1, tzinfo=UTC))


class Shorthand:
    """Numbers for texts, and packed bodies; usable from any thread.

    Args:
        secret: Of the database, by which texts are numbered.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()[:64]
        self._known: dict[tuple[str, int], dict[str, bytes]] = {}  # by table and year's end
        packed = resources.files("crosslight.runtime.audit").joinpath(f"typical_{FORMAT}.txt").read_bytes()
        self._typical = zstandard.ZstdCompressionDict(packed, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._parameters = zstandard.ZstdCompressionParameters.from_level(
            3,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=True,
            write_checksum=False,
            write_dict_id=False,
        )
        self._typical.precompute_compress(compression_params=self._parameters)
        self._local = threading.local()

    def number(self, text: str) -> bytes:
        """The number of a text."""
        return hashlib.blake2b(text.encode(), digest_size=NUMBER_BYTES, key=self._secret).digest()

    def of_year(self, text: str, until: int) -> bytes:
        """Its number in the year that ends ``until``."""
        return self.number(f"{until} {text}")

    def named(self, table: str, texts: Sequence[str], until: int) -> tuple[list[bytes], dict[bytes, str]]:
        """The numbers of texts in the year that ends ``until``, and those that ``table`` may lack yet."""
        known, new = self._known.get((table, until)) or {}, dict[bytes, str]()
        numbers = [known.get(text) for text in texts]
        if None in numbers:
            for at, text in enumerate(texts):
                if numbers[at] is None:
                    numbers[at] = number = self.of_year(text, until)
                    new[number] = text
        return cast(list[bytes], numbers), new

    def committed(self, table: str, new: Mapping[bytes, str], until: int) -> None:
        """These names are in ``table`` for good."""
        known = self._known.setdefault((table, until), {})
        if len(known) + len(new) > KNOWN:
            known.clear()
        known.update({text: number for number, text in new.items()})

    # --- bodies ---------------------------------------------------------------------------------------------

    def _pair(self) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
        pair: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None
        pair = getattr(self._local, "pair", None)
        if pair is None:
            pair = self._local.pair = (
                zstandard.ZstdCompressor(dict_data=self._typical, compression_params=self._parameters),
                zstandard.ZstdDecompressor(dict_data=self._typical, format=zstandard.FORMAT_ZSTD1_MAGICLESS),
            )
        return pair

    def pack(self, body: Any) -> bytes:
        """What an act alone says, as JSON, compressed."""
        return bytes((FORMAT,)) + self._pair()[0].compress(orjson.dumps(body, default=str))

    def unpack(self, packed: bytes) -> Any:
        """The inverse of :meth:`pack`.

        Raises:
            StorageError: for a format of a later release.
        """
        if packed[0] != FORMAT:
            raise StorageError(
                f"An act of the audit is of format {packed[0]}.", todo="Use the release that wrote it."
            )
        return orjson.loads(self._pair()[1].decompress(packed[1:]))


def whole(number: bytes) -> int:
    """A number as a column holds it."""
    return int.from_bytes(number, "big", signed=True)


def parted(numbers: bytes) -> list[int]:
    """Numbers that stand one after the other, as columns hold them."""
    return [whole(numbers[at : at + NUMBER_BYTES]) for at in range(0, len(numbers), NUMBER_BYTES)]


def pack_correlation(text: str) -> bytes:
    """A correlation id: 16 bytes where it is a UUID's hexadecimal digits, as ours are."""
    if len(text) == 32:
        with suppress(ValueError):
            packed = bytes.fromhex(text)
            if packed.hex() == text:
                return packed
    raw = b"\0" + text.encode()
    return raw if len(raw) != 16 else b"\0" + raw


def unpack_correlation(packed: bytes) -> str:
    """The inverse of :func:`pack_correlation`."""
    return packed.hex() if len(packed) == 16 else packed.lstrip(b"\0").decode()
