"""The ``[dimse]`` section of a node's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from crosslight.runtime.config import setting
from crosslight.standards.problem import ConfigError

#: What a caller may be granted (``crosslight.standards.access.CAPABILITIES``).
MAY = ("store", "find", "open", "export")
ANY_TITLE = "*"
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}\Z")  # PS3.5 6.2 AE: no backslash, no control characters, at most 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCaller:
    """One system that may call: a modality, a PACS."""

    ae_title: str = setting(help="Its calling AE title.", example="CT_SCANNER_1")
    addresses: tuple[str, ...] = setting(
        (), "Addresses or networks it calls from. Empty: from anywhere.", example=["10.1.2.3", "10.1.4.0/24"]
    )
    may: tuple[str, ...] = setting(
        ("store",),
        "What it may do: store objects, find studies of a patient or study that it names (C-FIND), open them"
        " (C-MOVE, C-GET), export: ask for whoever there is, as a work list of today's studies does.",
        example=["store", "find", "open"],
    )
    moves_to: tuple[str, ...] = setting(
        (),
        "AE titles of [[dimse.destinations]] that it may have objects sent to, beside its own; '*': any.",
        example=["WS_2"],
    )
    notifies: tuple[str, ...] = setting(
        (),
        "Names of [[sources.dimse]] and [[sources.dicomweb]] of which it may tell that instances are there"
        " (Instance Availability Notification): they are looked into at once.",
        example=["PACS"],
    )

    def matches(self, ae_title: str, address: str) -> bool:
        """Whether a call with this title from this address is this caller's."""
        if ae_title != self.ae_title.strip():
            return False
        here = ip_address(address.split("%", 1)[0])
        here = getattr(here, "ipv4_mapped", None) or here
        return not self.addresses or any(
            here in ip_network(network, strict=False) for network in self.addresses
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDestination:
    """One system that is called: objects may be sent to it (C-MOVE), and it may be told what lies here."""

    ae_title: str = setting(help="Its AE title, by which a C-MOVE names it.", example="WS_1")
    host: str = setting(help="Its address or host name.", example="10.1.7.20")
    port: int = setting(104, "Its TCP port.", low=1, high=65535)
    tls_ca: str = setting(
        "",
        "PEM file of the authorities of its certificate: DICOM over TLS, with tls_certificate shown to it."
        " Empty: in the clear.",
        example="workstations.pem",
    )
    notify: bool = setting(
        False,
        "Tell it of each study that has settled here (Instance Availability Notification), from now on.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseConfig:
    """The listener for DICOM: C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET, N-ACTION, N-CREATE."""

    enabled: bool = setting(True, "Listen for modalities and the PACS.")
    host: str = setting("0.0.0.0", "Address to bind.")  # noqa: S104 - modalities are on other machines
    port: int = setting(11112, "TCP port; 0 takes any free one.", low=0, high=65535)
    ae_title: str = setting("", "AE title of this node. Empty: the organisation code.", example="RTK")
    require_called_ae_title: bool = setting(True, "Refuse calls to another AE title.")
    accept_any_caller: bool = setting(
        False,
        "Accept every calling AE title from every address. Only for tests: DICOM without TLS knows no other"
        " check.",
    )
    callers: tuple[KnownCaller, ...] = setting((), "Each system that may call, as a table [[dimse.callers]].")
    destinations: tuple[KnownDestination, ...] = setting(
        (), "Each system that objects may be sent to, as a table [[dimse.destinations]]."
    )
    notify_after_s: float = setting(
        10.0, "A study is told of after so long without a new object.", low=0.0, high=86400
    )
    max_find_results: int = setting(
        20_000, "Most answers to one C-FIND; more end it as refused, out of resources.", low=1, high=1_000_000
    )
    max_retrieve_objects: int = setting(
        200_000, "Most objects of one C-MOVE or C-GET.", low=1, high=10_000_000
    )
    more_sop_classes: tuple[str, ...] = setting(
        (), "UIDs of private Storage SOP Classes to accept beside those of the standard."
    )
    max_associations: int = setting(
        32, "Associations at a time; more are refused as transient.", low=1, high=1000
    )
    max_associations_per_caller: int = setting(
        16, "Of these, most of one calling AE title at one address.", low=1, high=1000
    )
    max_connections_per_address: int = setting(
        32,
        "Most connections from one address (of IPv6: from one /64), with those that have asked for nothing"
        " yet; of these the oldest gives way.",
        low=1,
        high=2000,
    )
    max_pdu_bytes: int = setting(
        131072, "Largest PDU that is announced as acceptable.", low=16384, high=1 << 20
    )
    acse_timeout_s: float = setting(
        30.0, "Longest wait for an association request, or a TLS handshake.", low=0.1
    )
    network_timeout_s: float = setting(60.0, "An association that is silent for so long is aborted.", low=0.1)
    tls_certificate: str = setting(
        "", "PEM file of the certificate chain. Empty: DICOM in the clear.", example="dimse.crt"
    )
    tls_key: str = setting("", "PEM file of its key.", example="dimse.key")
    tls_client_ca: str = setting(
        "",
        "PEM file of the authorities whose client certificates are required. Empty: none is asked for.",
        example="clients.pem",
    )

    def check(self) -> None:
        """Refuse what :mod:`crosslight.runtime.config` cannot see.

        Raises:
            ConfigError: naming the key.
        """
        titles = [self.ae_title] if self.ae_title else []
        for caller in self.callers:
            if unknown := set(caller.may).difference(MAY):
                raise ConfigError(
                    f"{sorted(unknown)[0]!r} is nothing that a caller may do.",
                    todo="Use " + ", ".join(MAY) + ".",
                    where="dimse.callers.may",
                )
        known = [there.ae_title for there in self.destinations]
        for title in (*titles, *known, *(caller.ae_title for caller in self.callers)):
            if not _AE_TITLE.match(title) or not title.strip():
                raise ConfigError(
                    f"{title!r} is no AE title.", why="PS3.5 6.2: 1 to 16 characters.", where="dimse.ae_title"
                )
        for caller in self.callers:
            for address in caller.addresses:
                try:
                    ip_network(address, strict=False)
                except ValueError:
                    raise ConfigError(
                        f"{address!r} is no address or network.", where="dimse.callers.addresses"
                    ) from None
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError("TLS needs both a certificate and a key.", where="dimse.tls_key")
