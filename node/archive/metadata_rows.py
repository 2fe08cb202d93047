"""The DICOM JSON of instances as it rests: compressed, with that of its series' first instance as dictionary.

Instances of a series differ in little: 30 bytes each instead of 700.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from crosslight.runtime.db import Tx
from crosslight.standards.dicom.file.header import Header

LEVEL = 3
MAX_DICTIONARY_BYTES = 1 << 16  # JSON over that is compressed by itself
#: For statements that read metadata ``m``: what :class:`Expander` takes.
PACKED = "m.zstd, m.dictionary, d.zstd"
DICTIONARY = "LEFT JOIN dictionary d ON d.id = m.dictionary"


class Expander:
    """Expands metadata in one reading."""

    def __init__(self) -> None:
        self._by_dictionary = {0: zstandard.ZstdDecompressor()}

    def expand(self, packed: bytes, dictionary: int = 0, content: bytes | None = None) -> bytes:
        """The JSON; the arguments are what :data:`PACKED` selects."""
        known = self._by_dictionary.get(dictionary)
        if known is None:
            shared = _dictionary(self._by_dictionary[0].decompress(content or b""))
            known = self._by_dictionary[dictionary] = zstandard.ZstdDecompressor(dict_data=shared)
        return known.decompress(packed)


def packed_tx(tx: Tx, headers: Sequence[Header]) -> list[tuple[bytes, int]]:
    """(zstd, dictionary) of the metadata of each; dictionaries that are missing are made."""
    compressors: dict[tuple[str, str], tuple[zstandard.ZstdCompressor, int]] = {}
    rows = []
    for header in headers:
        series = (header.study_uid, header.series_uid)
        if series not in compressors:
            compressors[series] = _compressor_tx(tx, series, header.metadata)
        compressor, dictionary = compressors[series]
        rows.append((compressor.compress(header.metadata), dictionary))
    return rows


def _compressor_tx(tx: Tx, series: tuple[str, str], metadata: bytes) -> tuple[zstandard.ZstdCompressor, int]:
    row = tx.row("SELECT id, zstd FROM dictionary WHERE study_uid = ? AND series_uid = ?", series)
    if row is not None:
        number, metadata = row[0], zstandard.ZstdDecompressor().decompress(row[1])
    elif len(metadata) > MAX_DICTIONARY_BYTES:
        return zstandard.ZstdCompressor(level=LEVEL), 0
    else:
        sql = "INSERT INTO dictionary (study_uid, series_uid, zstd) VALUES (?, ?, ?) RETURNING id"
        made = tx.row(sql, (*series, zstandard.ZstdCompressor(level=LEVEL).compress(metadata)))
        assert made is not None  # noqa: S101 - RETURNING always gives a row
        number = made[0]
    shared = _dictionary(metadata)
    shared.precompute_compress(level=LEVEL)
    return zstandard.ZstdCompressor(level=LEVEL, dict_data=shared), number


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def forget_tx(tx: Tx, number: int, study_uid: str, series_uid: str) -> None:
    """The instance ``number`` of this series has gone."""
    for table in ("metadata", "large_metadata"):
        tx.execute(
            f"DELETE FROM {table} WHERE id = ? AND NOT EXISTS (SELECT 1 FROM instance WHERE id = ?)",
            (number, number),
        )
    series = (study_uid, series_uid)
    tx.execute(
        "DELETE FROM dictionary WHERE study_uid = ? AND series_uid = ? AND NOT EXISTS (SELECT 1 FROM instance"
        " WHERE study_uid = ? AND series_uid = ?)",
        (*series, *series),
    )
