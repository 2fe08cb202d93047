"""Fails when crosslight/pb is not what protos/ generates."""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Generate into a temporary folder and compare."""
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "",
            f"-I{ROOT / 'protos'}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            f"--grpc_python_out={folder}",
        ]
        if protoc.main([*arguments, *protos]) != 0:
            return 1
        made = sorted(p.relative_to(folder) for p in Path(folder).rglob("*_pb2*"))
        found = (ROOT / "crosslight" / "pb").glob("*_pb2*")
        kept = sorted(p.relative_to(ROOT) for p in found if p.suffix in (".py", ".pyi"))
        missing = [str(p) for p in made if not (ROOT / p).exists()]
        differing = missing or [
            str(p) for p in made if not filecmp.cmp(Path(folder) / p, ROOT / p, shallow=False)
        ]
    if differing or made != kept:
        sys.stderr.write(
            f"crosslight/pb is out of step with protos/: {differing or 'files differ'}. Run: make proto\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
