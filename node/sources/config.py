"""The ``[sources]`` section: archives of others beside which this node stands."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.standards.problem import ConfigError
from node.hours import hours_of
from node.sources.files.config import FolderSource, ObjectStoreSource, check_files
from node.sources.quirks import quirks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AnySource:
    """What every source has: a name, and how often it is looked at."""

    name: str = setting(help="What it is called here; not to be changed later.", example="PACS")
    earliest: str = setting("19900101", "Studies before this day are not looked for.", example="20100101")
    newest_days: int = setting(3, "So many days back are looked at each time.", low=1, high=60)
    look_every_s: float = setting(
        30.0, "How often the newest days are looked at, in seconds.", low=0.1, high=86400
    )
    studies_per_minute: int = setting(
        120, "Most studies that are looked into in a minute, so that the archive is not loaded.", low=1
    )
    busy_hours: str = setting(
        "", "Hours of the day, local time, in which it is asked less: from and to.", example="08-18"
    )
    busy_studies_per_minute: int = setting(20, "Most studies in a minute in these hours.", low=1)
    compare_every_h: float = setting(
        24.0,
        "Each month is compared with what is known so often, in hours; studies that changed long after"
        " their day are seen then.",
        low=0.0,
    )
    again_after_days: float = setting(
        30.0, "A study that seems unchanged is looked into again after so long.", low=0.01
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseSource(AnySource):
    """One archive that answers C-FIND, and gives objects by C-GET or C-MOVE."""

    ae_title: str = setting(help="Its AE title.", example="PACS")
    host: str = setting(help="Its address or host name.", example="10.1.2.20")
    port: int = setting(104, "Its TCP port.", low=1, high=65535)
    tls_ca: str = setting(
        "",
        "PEM file of the authorities of its certificate: DICOM over TLS, with dimse.tls_certificate shown to"
        " it. Empty: in the clear.",
    )
    retrieve: str = setting(
        "get",
        "How objects are had: 'get' by C-GET; 'move' by C-MOVE to this node's own AE title, which the archive"
        " must know by address and port.",
    )
    sends_as: str = setting("", "AE title that it calls with after a C-MOVE. Empty: its own.")
    quirks: tuple[str, ...] = setting(
        (),
        "What it does that the standard does not say: new-uids, early-final-status, text-is-latin-1,"
        " text-is-utf-8, over-long-values, empty-studies, dates-missing, issuer-missing.",
        example=["early-final-status"],
    )
    issuer: str = setting(
        "", "With the quirk issuer-missing: the issuer of patient ids that name none (0010,0021)."
    )
    most_answers: int = setting(
        500,
        "A question with more answers is cancelled and asked in parts. Below the archive's own limit.",
        low=2,
        high=100_000,
    )
    most_images: int = setting(100_000, "Most series of a study, and images of a series.", low=100)
    max_object_bytes: int = setting(8 << 30, "Largest object that passes through.", low=1 << 20)
    recount_every_s: float = setting(
        300.0,
        "Where it does not tell how many images a study has, those of the newest days are looked into again"
        " so often, in seconds.",
        low=0.1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomwebSource(AnySource):
    """One archive that answers DICOMweb."""

    url: str = setting(help="Its DICOMweb root.", example="https://pacs.trust.example/dicom-web")
    user: str = setting("", "User name, where it asks for one.")
    password_file: str = setting("", "File with the password, in the node's folder.")
    tls_ca: str = setting("", "PEM file of the authorities of its certificate. Empty: those of the machine.")


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """[sources]: archives of others."""

    dicomweb: tuple[DicomwebSource, ...] = setting(
        (), "Each archive that answers DICOMweb, as a table [[sources.dicomweb]]."
    )
    dimse: tuple[DimseSource, ...] = setting(
        (), "Each archive that speaks only DIMSE, as a table [[sources.dimse]]."
    )
    passing_bytes: int = setting(
        2 << 30,
        "Most bytes of objects that passed through whose copies are kept for the next reader; 0 = none.",
        low=0,
    )
    passing_minutes: float = setting(60.0, "So long a copy is given out.", low=0.0)
    folder: tuple[FolderSource, ...] = setting(
        (), "Each folder of Part 10 files, as a table [[sources.folder]]."
    )
    object_store: tuple[ObjectStoreSource, ...] = setting(
        (), "Each object store of Part 10 files, as a table [[sources.object_store]]."
    )

    @property
    def files(self) -> tuple[FolderSource | ObjectStoreSource, ...]:
        """Folders and object stores."""
        return (*self.folder, *self.object_store)

    @property
    def all(self) -> tuple[AnySource, ...]:
        """Each that is asked for studies, of whatever kind."""
        return (*self.dicomweb, *self.dimse)

    def check(self) -> None:
        """Refuse what cannot be told apart.

        Raises:
            ConfigError: naming the key.
        """
        names = [source.name for source in (*self.all, *self.files)]
        if len(set(names)) != len(names) or not all(names):
            raise ConfigError("Each source needs a name of its own.", where="sources.name")
        check_files(self.folder, self.object_store)
        for source in self.all:
            if not (source.earliest.isdecimal() and len(source.earliest) == 8):
                raise ConfigError("YYYYMMDD is wanted.", where="sources.earliest")
            hours_of(source.busy_hours, "sources.busy_hours")
        for calling in self.dimse:
            if calling.retrieve not in ("get", "move"):
                raise ConfigError("'get' or 'move' is wanted.", where="sources.dimse.retrieve")
            for title in (calling.ae_title, calling.sends_as or calling.ae_title):
                if not title.strip() or len(title) > 16 or not title.isascii() or "\\" in title:
                    raise ConfigError(
                        f"{title!r} is no AE title.",
                        why="PS3.5 6.2: 1 to 16 characters.",
                        where="sources.dimse.ae_title",
                    )
            quirks_of(calling.quirks, calling.issuer)
        for answering in self.dicomweb:
            if not answering.url.startswith(("http://", "https://")):
                raise ConfigError(f"{answering.url!r} is no address.", where="sources.dicomweb.url")
