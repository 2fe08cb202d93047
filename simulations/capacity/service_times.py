"""How long this product works on each thing, as measured; ``make bench`` writes the file beside this module.

They are of the machine that they were measured on: an answer for another is as right as the two are alike.
Each value says when, where and of which release it was measured: a part of the benchmarks may run alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Self

import orjson

from crosslight import __version__
from crosslight.standards.problem import ConfigError
from simulations.capacity.compared import Compared, Comparison

FILE = Path(str(resources.files("simulations.capacity").joinpath("service_times.json")))
OLD_AFTER_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """Measured work of one registry process and one node, in seconds of one core where nothing else is said.

    Args:
        find_s: What a search takes of what all share: the mean time between two answers at full load.
        variation: Standard deviation over mean of that time; pauses for the disk are in it.
        find_alone_s: A search when nobody else asks, from asking to its last byte.
        find_alone_variation: Standard deviation over mean of it.
        find_cpu_s: Processor time of it, database included.
        publish_cpu_s: Processor time of one published study, database included.
        publish_per_s: Studies each second that one process takes from its feeds.
        relay_s: Registry's processor time for a picture that it passes on from the node that holds it.
        picture_s: A rendered picture at the node that holds it.
        store_cpu_s: Node's processor time for one image that it receives.
        first_byte_s: From a retrieve to the first byte of a study at the node.
        stream_mb_s: Megabytes each second that a node streams.
        study_bytes: Bytes of one study in the index, on PostgreSQL, with its indexes.
        patient_bytes: Bytes of one member's record of a patient beside them.
        act_bytes: Bytes of one audited act with its outcome.
    """

    find_s: float
    variation: float
    find_alone_s: float
    find_alone_variation: float
    find_cpu_s: float
    publish_cpu_s: float
    publish_per_s: float
    relay_s: float
    picture_s: float
    store_cpu_s: float
    first_byte_s: float
    stream_mb_s: float
    study_bytes: float
    patient_bytes: float
    act_bytes: float

    def on(self, core_speed: float) -> Self:
        """The same where a core does so many times the work of the one that they were measured on."""
        values = {
            name: value / core_speed if name.endswith("_s") and not name.endswith("_per_s") else value
            for name, value in asdict(self).items()
        }
        values["publish_per_s"] = self.publish_per_s * core_speed
        values["stream_mb_s"] = self.stream_mb_s * core_speed
        return replace(self, **values)


NAMES = tuple(item.name for item in fields(ServiceTimes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from.

    Args:
        measured: On which day. release: Of which release of the product.
        commit: Of which state of its sources, where it was known.
        machine: On what. core_s: What the reference work took a core of it (:func:`machine.core_s`), seconds.
    """

    measured: date
    release: str
    commit: str = ""
    machine: str = ""
    core_s: float = 0.0

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Self:
        """Read what :func:`dataclasses.asdict` wrote."""
        return cls(
            measured=date.fromisoformat(said["measured"]),
            release=str(said["release"]),
            commit=str(said.get("commit", "")),
            machine=str(said.get("machine", "")),
            core_s=float(said.get("core_s", 0.0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Service times, where each comes from, and how the forecast did beside a region that ran."""

    times: ServiceTimes
    origins: Mapping[str, Origin]
    compared: Comparison | None = None

    @property
    def latest(self) -> Origin:
        """Of the last run that measured anything."""
        return max(self.origins.values(), key=lambda origin: (origin.measured, origin.commit != ""))

    def age(self, today: date) -> str:
        """In words, whether they may be believed; '' where they may."""
        others = sorted({o.release for o in self.origins.values() if o.release != __version__})
        if others:
            return (
                f"{_of(self.origins, [n for n, o in self.origins.items() if o.release != __version__])} of"
                f" release {', '.join(others)}; this is {__version__}: run make bench."
            )
        old = {n: (today - o.measured).days for n, o in self.origins.items()}
        late = [name for name, days in old.items() if days > OLD_AFTER_DAYS]
        if late:
            return f"{_of(self.origins, late)} up to {max(old.values())} days old: run make bench."
        return ""

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        values = asdict(self.times)
        return {
            "times": {name: {"value": values[name], **asdict(self.origins[name])} for name in NAMES},
            "compared": self.compared.plain() if self.compared is not None else None,
        }


def _of(all_: Mapping[str, Origin], named: Iterable[str]) -> str:
    some = sorted(named)
    return (
        "The service times are" if len(some) == len(all_) else f"Of the service times {', '.join(some)} are"
    )


def read(path: Path = FILE) -> Measured:
    """What was measured last.

    Raises:
        ConfigError: if the file is none of ours, or lacks a value.
    """
    try:
        said = orjson.loads(path.read_bytes())
        entries = said["times"]
        origins = {name: Origin.from_plain(entries[name]) for name in NAMES if name in entries}
        compared = Comparison.from_plain(said["compared"]) if said.get("compared") else None
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"{path} holds no service times.", todo="Run make bench.") from None
    return Measured(times=_times(entries), origins=origins, compared=compared)


def _times(entries: Mapping[str, Any]) -> ServiceTimes:
    values = {}
    for name in NAMES:
        value = entries[name].get("value") if isinstance(entries.get(name), dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise ConfigError(f"The measured service time {name} is missing.", todo="Run make bench.")
        values[name] = float(value)
    return ServiceTimes(**values)


def write(values: Mapping[str, float], origin: Origin, path: Path = FILE) -> Measured:
    """Keep what was measured now; values that were not stay as they were, with where they come from.

    Args:
        values: By name of :class:`ServiceTimes`.
        origin: Of these values.
        path: The file; made where it is not there, by a copy of this release's own.

    Raises:
        ConfigError: for a name of no service time, and where the file is none of ours.
    """
    unknown = sorted(set(values) - set(NAMES))
    if unknown:
        raise ConfigError(f"{unknown[0]} is no service time.", where="service times")
    before = read(path if path.exists() else FILE)
    entries = {name: {"value": value} for name, value in {**asdict(before.times), **values}.items()}
    measured = Measured(
        times=_times(entries),
        origins={**before.origins, **dict.fromkeys(values, origin)},
        compared=before.compared,
    )
    return _kept(measured, path)


def keep_comparison(rows: Iterable[Compared], origin: Origin, path: Path = FILE) -> Measured:
    """Keep how far the forecast was off beside a region that ran."""
    before = read(path if path.exists() else FILE)
    said = Comparison(
        measured=origin.measured, release=origin.release, machine=origin.machine, rows=tuple(rows)
    )
    return _kept(replace(before, compared=said), path)


def _kept(measured: Measured, path: Path) -> Measured:
    path.write_bytes(orjson.dumps(measured.plain(), option=orjson.OPT_INDENT_2) + b"\n")
    return measured
