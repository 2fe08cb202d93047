"""The ``[continuity]`` section: the region's lists of patients with an order here (ADR 0060)."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.mllp import MllpLimits
from crosslight.standards.problem import ConfigError


@dataclass(frozen=True, slots=True)
class ContinuityConfig:
    """[continuity]: lists that are kept for when the region is away."""

    enabled: bool = setting(
        False,
        "Listen to imaging orders (HL7 v2 ORM^O01, OMG^O19, OMI^O23 by MLLP), and keep the region's list of"
        " each patient with one.",
    )
    host: str = setting(
        "127.0.0.1", "Address to bind, on the trust's inner network. MLLP is without TLS here."
    )
    port: int = setting(2575, "MLLP port for orders.", low=1, high=65535)
    senders: tuple[str, ...] = setting(
        (), "IP addresses of the systems that may send orders; nobody else may.", example=["10.1.2.3"]
    )
    keep_hours: float = setting(24.0, "How long a list is kept; then it is removed.", low=0.0001, high=24.0)
    max_patients: int = setting(
        2000, "Most patients; the one whose order is oldest goes.", low=1, high=100_000
    )
    max_bytes: int = setting(
        256 << 20, "Most bytes of all lists; that of the oldest order goes.", low=1 << 20, high=1 << 34
    )
    max_list_bytes: int = setting(4 << 20, "Largest list of one patient.", low=1 << 16, high=64 << 20)
    retry_first_s: float = setting(2.0, "First wait before the region is asked again.", low=0.01, high=60)
    retry_max_s: float = setting(120.0, "Longest such wait.", low=0.01, high=3600)
    max_connections: int = setting(16, "Most connections of senders of orders.", low=1, high=1024)

    def check(self, *, secured: bool) -> None:
        """Refuse a listener that nobody may send to.

        Raises:
            ConfigError: naming the key.
        """
        if self.enabled and secured and not self.senders:
            raise ConfigError("Nobody may send orders.", todo="Name the senders.", where="continuity.senders")

    def limits(self) -> MllpLimits:
        """Of the listener."""
        most = self.max_connections
        return MllpLimits(
            max_message_bytes=1 << 20, max_connections=most, max_connections_per_peer=min(8, most)
        )
