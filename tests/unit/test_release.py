"""A release is signed: whoever has the public key sees that nothing of it was changed (threat C2)."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", "--no-print-directory", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A throw-away key and its public half."""
    key, public = folder / f"{name}.key", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    return key, public


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of a release and whose signature it has."""
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in ("crosslight-1-py3-none-any.whl", "crosslight-1.tar.gz", "crosslight.cdx.json"):
        (dist / name).write_bytes(name.encode())
    key, public = pair(tmp_path, "ours")
    done = make("sign", f"DIST={dist}", f"KEY={key}")
    assert done.returncode == 0, done.stderr
    return dist, public


def test_what_was_signed_is_verified(signed: tuple[Path, Path]) -> None:
    dist, public = signed
    done = make("verify", f"DIST={dist}", f"PUBLIC={public}")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = (dist / "SHA256SUMS").read_text("ascii").splitlines()
    assert [line.split()[1] for line in listed] == sorted(
        path.name for path in dist.iterdir() if not path.name.startswith("SHA256SUMS")
    )


@pytest.mark.parametrize("what", ["file", "sums", "signature", "another-key", "no-signature"])
def test_an_exchanged_release_is_not_verified(signed: tuple[Path, Path], tmp_path: Path, what: str) -> None:
    dist, public = signed
    wheel, sums, signature = (
        dist / "crosslight-1-py3-none-any.whl",
        dist / "SHA256SUMS",
        dist / "SHA256SUMS.sig",
    )
    if what == "file":
        wheel.write_bytes(b"another")
    elif what == "sums":
        sums.write_bytes(sums.read_bytes().replace(b"crosslight-1.tar.gz", b"crosslight-2.tar.gz"))
    elif what == "signature":
        signature.write_bytes(bytes(64))
    elif what == "no-signature":
        signature.unlink()
    else:
        public = pair(tmp_path, "theirs")[1]
    assert make("verify", f"DIST={dist}", f"PUBLIC={public}").returncode != 0


def test_a_release_without_a_key_is_none() -> None:
    for words in (("verify", "PUBLIC="),):
        done = make(*words)
        assert done.returncode != 0
        assert "Say whose" in done.stdout


def test_the_wheel_has_the_program_and_no_tests(tmp_path: Path) -> None:
    python = ROOT / ".venv" / "bin" / "python"
    built = subprocess.run(
        [python, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("crosslight-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "registry/identity/deltas/0001_identity.sql" in names
    assert not [name for name in names if name.startswith("tests/")]
