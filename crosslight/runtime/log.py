"""Structured logs: one JSON object a line on stderr, or plain lines for people.

Never patient data, never secrets.

Values are given by name, and only names on :data:`SAFE_FIELDS` are written; any other is replaced by its
type. So a name or number that slips in does not reach a log.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import orjson

from crosslight.runtime.config import setting
from crosslight.runtime.plain_text import printable

#: What may be logged. UIDs of studies are pseudonymous and needed to operate; names, numbers and dates of
#: birth are not here.
SAFE_FIELDS = frozenset(
    {
        "act",
        "action",
        "address",
        "aet",
        "attempt",
        "bytes",
        "call",
        "code",
        "component",
        "correlation",
        "count",
        "delay_s",
        "destination",
        "detail",
        "duration_s",
        "epoch",
        "error",
        "event",
        "expires",
        "face",
        "file",
        "held",
        "incarnation",
        "instances",
        "kind",
        "lag_s",
        "level",
        "listener",
        "member",
        "method",
        "n",
        "name",
        "outcome",
        "path",
        "peer",
        "pid",
        "port",
        "query",
        "reason",
        "road",
        "role",
        "seconds",
        "serial",
        "series",
        "service",
        "signal",
        "since",
        "size",
        "skew_ms",
        "skew_s",
        "state",
        "status",
        "study",
        "transaction",
        "url",
        "version",
        "waiting",
        "what",
    }
)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]: what is written to stderr. Patient data never is."""

    level: str = setting("info", "How much.", choices=("debug", "info", "warning", "error"))
    json: bool = setting(True, "One JSON object a line; false for lines that people read.")


class Logger:
    """``log.info("joined", member="RTK")``."""

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(f"crosslight.{name}")

    def _write(self, level: int, event: str, values: dict[str, Any]) -> None:
        if self._log.isEnabledFor(level):
            safe = {k: v if k in SAFE_FIELDS else f"<{type(v).__name__}>" for k, v in values.items()}
            self._log.log(level, event, extra={"fields": safe})

    def debug(self, event: str, **values: Any) -> None:
        """Details for developers."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: Any) -> None:
        """Something happened as it should."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Something an operator should know."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        """Something an operator must act on."""
        self._write(logging.ERROR, event, values)

    def exception(self, event: str, **values: Any) -> None:
        """An error of ours with its stack, without the error's own text (it may hold patient data)."""
        kind = sys.exc_info()[0]
        self._write(logging.ERROR, event, {**values, "error": kind.__name__ if kind else "?"})
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug("stack", exc_info=True)


def get_logger(name: str) -> Logger:
    """The logger of a room."""
    return Logger(name)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": (
                f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
            ),
            "level": record.levelname.lower(),
            "room": record.name.removeprefix("crosslight."),
            "event": record.getMessage() if record.name.startswith("crosslight") else record.msg,
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[2] is not None:
            entry["stack"] = "".join(traceback.format_tb(record.exc_info[2]))
        line = orjson.dumps(entry, default=str).decode()
        return line if line.isprintable() else json.dumps(entry, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        tail = " ".join(
            f"{k}={v}" for k, v in fields.items()
        )  # values come from outside: they stay on the line
        room = record.name.removeprefix("crosslight.")
        event = record.getMessage() if record.name.startswith("crosslight") else str(record.msg)
        line = (
            f"{self.formatTime(record, '%H:%M:%S%z')} {record.levelname[0]} {room}: {event} {tail}".rstrip()
        )
        return printable(line)


def setup_logging(*, level: str = "info", json: bool = False) -> None:
    """Send all logs to stderr. Called once by a command's main; libraries' debug chatter stays off."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if json else _TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("crosslight").setLevel(level.upper())
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
