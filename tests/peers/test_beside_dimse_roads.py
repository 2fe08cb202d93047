"""Roads to archives that speak DIMSE: C-MOVE to ourselves from dcmqrscp and Orthanc, and DICOM over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dicom_objects as make
from aiohttp import ClientSession
from beside_dimse import Beside, beside, dcmqrscp, given, put, silent, uids, until
from dimse_node import certified
from ports import free_base, free_ports
from pydicom.dataset import Dataset

from benchmarks.peers import orthanc
from node.dimse.config import DimseConfig

OURS = [f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"]


def listener(port: int, **more: Any) -> DimseConfig:
    return DimseConfig(host="127.0.0.1", port=port, ae_title="RTK", **more)


def images() -> list[Dataset]:
    return [make.image(n, Rows=256, Columns=256, pixels=bytes(range(256)) * 512) for n in (1, 2)]


async def is_given(node: Beside, made: Sequence[Dataset]) -> None:
    """What goes out is what was sent in, and nothing of it lies here."""
    await until(lambda: uids(node.archive), OURS)
    found = await given(node.archive, make.STUDY)
    assert [make.data_set_of(data) for data in found] == [make.data_set_of(make.part10(one)) for one in made]
    assert await given(node.archive, make.STUDY) == found, "the same bytes again"


async def post(http: int, made: Sequence[Dataset]) -> None:
    """Into Orthanc, by its REST."""
    async with ClientSession() as session:
        for one in made:
            async with session.post(f"http://127.0.0.1:{http}/instances", data=make.part10(one)) as answer:
                assert answer.status == 200


async def test_dcmqrscp_moves_to_us_what_somebody_opens(tmp_path: Path) -> None:
    port, own = free_ports(2)
    async with dcmqrscp(tmp_path / "qr", port, sends_to=own):
        made = images()
        await asyncio.to_thread(put, port, "QRSCP", *made)
        async with beside(
            tmp_path / "node", port, "QRSCP", dimse=listener(own), retrieve="move", sends_as="QRSCP"
        ) as node:
            await is_given(node, made)


async def test_orthanc_moves_to_us_what_somebody_opens(tmp_path: Path) -> None:
    http, (own,), made = free_base(1), free_ports(1), images()
    known = {"rtk": {"AET": "RTK", "Host": "127.0.0.1", "Port": own}}
    async with orthanc(tmp_path / "orthanc", http, DicomModalities=known):
        await post(http, made)
        async with beside(
            tmp_path / "node", http + 1, "ORTHANC", dimse=listener(own), retrieve="move"
        ) as node:
            await is_given(node, made)


def tls_of(folder: Path) -> dict[str, Any]:
    """Orthanc's own certificate, and whom it trusts."""
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(folder / "dimse.crt"),
        "DicomTlsPrivateKey": str(folder / "dimse.key"),
        "DicomTlsTrustedCertificates": str(folder / "dimse.crt"),
        "DicomTlsRemoteCertificateRequired": True,
    }


async def test_orthanc_is_asked_over_tls_with_our_certificate_shown(tmp_path: Path) -> None:
    http, (own,), made = free_base(1), free_ports(1), images()
    await certified(tmp_path)
    paths = {"tls_certificate": str(tmp_path / "dimse.crt"), "tls_key": str(tmp_path / "dimse.key")}
    ca = str(tmp_path / "dimse.crt")
    known = {"rtk": {"AET": "RTK", "Host": "127.0.0.1", "Port": own, "UseDicomTls": True}}
    async with orthanc(tmp_path / "orthanc", http, DicomModalities=known, **tls_of(tmp_path)):
        await post(http, made)
        for retrieve in ("get", "move"):  # what is moved comes over TLS too
            async with beside(
                tmp_path / retrieve,
                http + 1,
                "ORTHANC",
                dimse=listener(own, tls_client_ca=ca, **paths),
                retrieve=retrieve,
                tls_ca=ca,
            ) as node:
                await is_given(node, made)
        async with beside(tmp_path / "nobody", http + 1, "ORTHANC", tls_ca=ca) as node:
            await until(lambda: silent(node.sources), True)  # without a certificate it is not let in
            assert await uids(node.archive) == []
        async with beside(tmp_path / "plain", http + 1, "ORTHANC") as node:
            await until(lambda: silent(node.sources), True)


async def test_an_archive_with_another_certificate_is_not_asked(tmp_path: Path) -> None:
    http, made = free_base(1), images()
    for name in ("theirs", "trusted"):
        (tmp_path / name).mkdir()
        await certified(tmp_path / name)
    theirs = tls_of(tmp_path / "theirs") | {"DicomTlsRemoteCertificateRequired": False}
    async with orthanc(tmp_path / "orthanc", http, **theirs):
        await post(http, made)
        false, true = (str(tmp_path / name / "dimse.crt") for name in ("trusted", "theirs"))
        async with beside(tmp_path / "false", http + 1, "ORTHANC", tls_ca=false) as node:
            await until(lambda: silent(node.sources), True)
            assert await uids(node.archive) == []
        async with beside(tmp_path / "true", http + 1, "ORTHANC", tls_ca=true) as node:
            await is_given(node, made)
