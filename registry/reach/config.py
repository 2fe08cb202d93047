"""Configuration of the calls to members: a part of the section ``[gateway]``."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class ReachConfig:
    """Bounds of each call to a member."""

    connect_timeout_s: float = setting(4.0, "Wait for a connection to a member.", low=0.1, high=60)
    answer_timeout_s: float = setting(30.0, "Wait for a member's first byte.", low=1, high=600)
    stall_timeout_s: float = setting(
        60.0, "Longest silence of a member in the middle of an answer.", low=1, high=3600
    )
    buffer_bytes: int = setting(
        262144, "Read ahead of each stream; at most twice this is held.", low=16384, high=2097152
    )
    connections_per_member: int = setting(
        64, "Most calls to one member at a time, of all callers.", low=1, high=1024
    )
    connections_per_caller: int = setting(
        8, "Of these, most of one caller: a person, an app, a system.", low=1, high=1024
    )
    turn_timeout_s: float = setting(
        20.0, "Wait for a turn at a member; then the answer is that it is busy.", low=0.1, high=300
    )
    token_ttl_s: int = setting(300, "How long a holder accepts the token of a retrieve.", low=30, high=900)
    tunnel_window_bytes: int = setting(
        1 << 20,
        "Of each connection through a member's tunnel, so much is taken ahead of its reader. At a distance,"
        " one connection gets at most this in each round trip.",
        low=1 << 16,
        high=1 << 24,
    )
    tunnel_look_s: float = setting(
        60.0,
        "How often it is tried whether a member with a tunnel can be reached at its own address.",
        low=1,
        high=86400,
    )
