"""The ``[serve]`` section: bounds of what this trust's DICOMweb, RAD-69 and ITI-43 take in and give out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.shares import ShareLimits
from crosslight.standards.problem import ConfigError
from node.hours import hours_of


@dataclass(frozen=True, slots=True)
class CapConfig:
    """What a partner is given at most."""

    partner: str = setting(
        "*", "Organisation code of who asks, or the name of a system; '*' for each other.", example="RXC"
    )
    hours: str = setting("", "Hours of the day, local time, in which it holds; '' for all.", example="08-18")
    mbit_s: float = setting(100.0, "Megabits in a second, for all retrieves of it together.", low=0.1)


def check_caps(caps: Sequence[CapConfig]) -> None:
    """Refuse what says no cap.

    Raises:
        ConfigError: naming the key.
    """
    for cap in caps:
        if not cap.partner.strip():
            raise ConfigError(
                "A cap needs a partner.", todo="Write a code, or '*'.", where="serve.caps.partner"
            )
        hours_of(cap.hours, "serve.caps.hours")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Bounds and habits of the faces that serve what this trust holds."""

    public_base_url: str = setting(
        "",
        "How clients reach /dicomweb of this node, for RetrieveURL; '' takes scheme and host of each "
        "request.",
        example="https://pacs.trust.example",
    )
    max_stow_bytes: int = setting(4 << 30, "Largest STOW-RS request, in bytes.", low=1 << 20)
    max_instance_bytes: int = setting(2 << 30, "Largest instance that STOW-RS stores, in bytes.", low=1 << 20)
    max_stow_parts: int = setting(5000, "Most instances in one STOW-RS request.", low=1, high=100_000)
    max_search_results: int = setting(
        5000, "Most rows of one QIDO-RS answer, and its default limit.", low=1, high=100_000
    )
    max_frames_per_request: int = setting(
        1000, "Most frames that one retrieve may list.", low=1, high=100_000
    )
    max_frame_bytes: int = setting(256 << 20, "Largest single frame that is served, in bytes.", low=1 << 20)
    max_render_pixels: int = setting(100_000_000, "Largest frame that is rendered, in pixels.", low=1 << 16)
    max_render_side: int = setting(
        8192, "Largest side of a rendered viewport, in pixels.", low=16, high=65535
    )
    thumbnail_side: int = setting(
        160, "Side of a thumbnail, in pixels, where the request names none.", low=16, high=1024
    )
    render_cache_bytes: int = setting(64 << 20, "Memory for rendered pictures, in bytes.", low=0)
    decoders: int = setting(
        1, "Pictures and instances that are decoded at once; at most the number of child processes.", low=1
    )
    decodes_waiting_per_caller: int = setting(
        64, "Most pictures and instances of one caller that wait to be decoded.", low=1, high=10_000
    )
    retrieves: int = setting(128, "Most retrieves that are sent at a time.", low=1, high=100_000)
    retrieves_per_caller: int = setting(
        16, "Of these, most of one caller: a person, an app, a system.", low=1, high=100_000
    )
    stores: int = setting(16, "Most STOW-RS requests that are received at a time.", low=1, high=10_000)
    stores_per_caller: int = setting(4, "Of these, most of one caller.", low=1, high=10_000)
    turn_timeout_s: float = setting(
        30.0, "Wait for a turn at any of these; then the answer is that it is busy.", low=0.1, high=300
    )
    max_decode_samples: int = setting(
        500_000_000,
        "Most pixel samples of an instance that is given in another transfer syntax.",
        low=1 << 16,
    )
    max_transcode_bytes: int = setting(
        4 << 30,
        "Most bytes that one retrieve may need in another transfer syntax; they wait on disk meanwhile.",
        low=1 << 20,
    )
    max_clock_skew_s: float = setting(
        60.0, "Clock difference to the region above which new retrieves are refused.", low=1
    )
    soap_sender_faults_400: bool = setting(
        False,
        "Answer a SOAP fault of the sender's making with HTTP 400 (SOAP 1.2 part 2, Table 20) instead of 500,"
        " the only one whose fault many clients read.",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "Web origins whose pages may read DICOMweb here ('*' for any); none by default.",
        example=["https://viewer.example"],
    )

    caps: tuple[CapConfig, ...] = setting(
        (), "How fast other organisations are given images, as tables [[serve.caps]]; none by default."
    )
    while_storing_mbit_s: float = setting(
        400.0,
        "While objects are stored here, all other organisations together are given so many megabits in a"
        " second; 0: no cap.",
        low=0.0,
    )

    def check(self) -> None:
        """Refuse caps that say nothing.

        Raises:
            ConfigError: naming the key.
        """
        check_caps(self.caps)

    def decoding(self) -> ShareLimits:
        """Of the decoders: whoever is alone may have all of them."""
        return ShareLimits(
            total=self.decoders,
            each=self.decoders,
            waiting=16 * self.decodes_waiting_per_caller,
            waiting_each=self.decodes_waiting_per_caller,
            patience_s=self.turn_timeout_s,
        )

    def sending(self) -> ShareLimits:
        """Of retrieves."""
        each = min(self.retrieves_per_caller, self.retrieves)
        return ShareLimits(total=self.retrieves, each=each, patience_s=self.turn_timeout_s)

    def storing(self) -> ShareLimits:
        """Of STOW-RS requests."""
        each = min(self.stores_per_caller, self.stores)
        return ShareLimits(total=self.stores, each=each, patience_s=self.turn_timeout_s)
