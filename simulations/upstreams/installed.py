"""Programs of others that an archive needs, and what to install where one is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from crosslight.standards.problem import ConfigError

ORTHANC = ("/usr/sbin/Orthanc", "/usr/bin/Orthanc")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

#: Program -> the Debian package that has it.
PACKAGES = {
    "Orthanc": "orthanc",
    "Orthanc's DICOMweb plugin": "orthanc-dicomweb",
    "dcmqrscp": "dcmtk",
    "dcmqridx": "dcmtk",
    "movescu": "dcmtk",
    "storescp": "dcmtk",
    "java": "default-jdk-headless",
    "mvn": "maven",
}


def found(program: str) -> str:
    """The path of a program, '' where it is not installed."""
    if program == "Orthanc":
        return next((p for p in ORTHANC if Path(p).exists()), None) or shutil.which("Orthanc") or ""
    if program == "Orthanc's DICOMweb plugin":
        return str(DICOMWEB_PLUGIN) if DICOMWEB_PLUGIN.exists() else ""
    return shutil.which(program) or ""


def check_installed(programs: Iterable[str]) -> None:
    """Refuse to begin without one of them.

    Raises:
        ConfigError: naming all that are missing, and what to install.
    """
    missing = [program for program in dict.fromkeys(programs) if not found(program)]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[program] for program in missing))
        raise ConfigError(
            f"Not installed: {', '.join(missing)}.",
            why="The archives of others are their own programs.",
            todo=f"apt-get install {packages} (or: make debian debian-peers)",
        )
