"""``[portal]``: what the clinician's page is called, and its small clocks."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalConfig:
    """Settings of the clinician's page."""

    service_name: str = setting("Imaging network", "Name of the service in the page's header.")
    member_word: str = setting("trust", "What the page calls a member: trust, board, hospital.")
    poll_s: int = setting(
        2,
        "How often, in seconds, an open page asks whether its list is still so; a change shows one second"
        " later.",
        low=1,
        high=4,
    )
    handle_ttl_s: int = setting(
        12 * 3600, "How long the address of a patient's page holds.", low=300, high=7 * 86400
    )
    max_matches: int = setting(20, "Patients shown at most for a name and date of birth.", low=1, high=100)
    sign_in: str = setting("/signin", "Where the page's sign-in link leads.")
    sign_out: str = setting("/signout", "Where the page's sign-out button posts.")
    support: str = setting("", "Whom to call when the page fails: one line, shown on error pages.")
