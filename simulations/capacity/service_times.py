"""How long this product works on each thing, as measured; ``make bench`` writes the file beside this module.

They are of the machine that they were measured on: an answer for another is as right as the two are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Self

import orjson

from crosslight import __version__
from crosslight.standards.problem import ConfigError

FILE = Path(str(resources.files("simulations.capacity").joinpath("service_times.json")))
OLD_AFTER_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """Measured work of one registry process and one node, in seconds of one core where nothing else is said.

    Args:
        find_s: A patient's studies searched for, at full load: the inverse of one process's rate.
        find_cpu_s: Processor time of it, database included.
        publish_cpu_s: Processor time of one published study, database included.
        publish_per_s: Studies each second that one process takes from its feeds.
        picture_s: A rendered picture at the node that holds it.
        first_byte_s: From a retrieve to the first byte of a study at the node.
        stream_mb_s: Megabytes each second that a node streams.
        study_bytes: Bytes of one study in the index, on PostgreSQL, with its indexes.
        patient_bytes: Bytes of one patient beside them.
        act_bytes: Bytes of one audited act with its outcome.
        variation: Standard deviation over mean of a search's service time.
    """

    find_s: float
    find_cpu_s: float
    publish_cpu_s: float
    publish_per_s: float
    picture_s: float
    first_byte_s: float
    stream_mb_s: float
    study_bytes: float
    patient_bytes: float
    act_bytes: float
    variation: float

    @classmethod
    def from_plain(cls, said: dict[str, Any]) -> Self:
        """Read what :func:`dataclasses.asdict` wrote.

        Raises:
            ConfigError: if one is missing, or is no number above nothing.
        """
        values = {}
        for item in fields(cls):
            value = said.get(item.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigError(
                    f"The measured service time {item.name} is missing.", todo="Run make bench."
                )
            values[item.name] = float(value)
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Service times with when and of which release they were measured, and on what."""

    times: ServiceTimes
    measured: date
    release: str
    machine: str
    errors: Mapping[str, float] = field(
        default_factory=dict
    )  # of the forecast beside a running region, by question

    def age(self, today: date) -> str:
        """In words, whether they may be believed; '' where they may."""
        if self.release != __version__:
            return f"The service times are of release {self.release}; this is {__version__}: run make bench."
        days = (today - self.measured).days
        return f"The service times are {days} days old: run make bench." if days > OLD_AFTER_DAYS else ""

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "measured": self.measured.isoformat(),
            "release": self.release,
            "machine": self.machine,
            "times": asdict(self.times),
            "errors": dict(self.errors),
        }


def read(path: Path = FILE) -> Measured:
    """What was measured last.

    Raises:
        ConfigError: if the file is none of ours.
    """
    try:
        said = orjson.loads(path.read_bytes())
        return Measured(
            times=ServiceTimes.from_plain(said["times"]),
            measured=date.fromisoformat(said["measured"]),
            release=str(said["release"]),
            machine=str(said["machine"]),
            errors={str(name): float(error) for name, error in said.get("errors", {}).items()},
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"{path} holds no service times.", todo="Run make bench.") from None


def write(
    values: Mapping[str, float], errors: Mapping[str, float], machine: str, today: date, path: Path = FILE
) -> Measured:
    """Keep what was measured today; values that were not measured now stay as they were."""
    before = asdict(read(path).times)
    measured = Measured(
        times=ServiceTimes.from_plain({**before, **values}),
        measured=today,
        release=__version__,
        machine=machine,
        errors=dict(errors),
    )
    path.write_bytes(orjson.dumps(measured.plain(), option=orjson.OPT_INDENT_2) + b"\n")
    return measured
