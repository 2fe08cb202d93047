"""Configuration of sign-in, sessions and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import section, setting


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """[access.oidc]: the identity provider of the people who use the page."""

    issuer: str = setting(
        "",
        "Issuer URL of the OpenID provider; empty = the demo's provider where enabled, else nobody signs in.",
    )
    client_id: str = setting("crosslight", "Our client id there.")
    client_secret_file: str = setting(
        "", "File with our client secret, in this folder; empty = public client with PKCE."
    )
    scopes: str = setting("openid profile", "Scopes asked for, separated by spaces.")
    algorithms: tuple[str, ...] = setting(
        ["RS256", "PS256", "ES256", "ES384"], "Algorithms accepted on ID tokens."
    )
    acr_values: str = setting(
        "",
        "Assurance asked for (acr_values), the best first, separated by spaces; empty = none is named.",
    )
    acr_required: tuple[str, ...] = setting(
        [], "Assurance of which one must have been reached, e.g. AAL2 and AAL3; empty = any."
    )
    acr_claim: str = setting("acr", "Claim with the assurance that was reached; a dotted path may be used.")
    amr_required: tuple[str, ...] = setting(
        [], "Methods (amr, RFC 8176) that must all have been used, e.g. mfa; empty = any."
    )
    subject_claim: str = setting("sub", "Claim with the person's lasting id.")
    name_claim: str = setting("name", "Claim with the person's name, as the audit shows it.")
    roles_claim: str = setting(
        "roles", "Claim with roles; a dotted path reaches into objects and lists of objects."
    )
    organisation_claim: str = setting(
        "organisation", "Claim with the organisation code; a dotted path may be used."
    )
    role_map: dict[str, str] = setting(
        {},
        'What the provider\'s role values mean here, e.g. { consultant = "clinician" }; '
        "empty = they are called as ours.",
    )


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """[[access.demo.accounts]]: a made-up person."""

    user: str = setting(help="Name to sign in with.")
    password: str = setting(help="In the clear: these accounts open synthetic data only.")
    name: str = setting("", "Shown on the page and in the audit.")
    roles: tuple[str, ...] = setting(["clinician"], "Roles of this person here.")
    organisation: str = setting("", "Organisation code of this person.")
    acr: str = setting("", "Assurance that this person's sign-ins reach, e.g. AAL3.")
    amr: tuple[str, ...] = setting([], "Methods that this person's sign-ins use.")


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """[access.demo]: a built-in provider for demonstrations only."""

    enabled: bool = setting(False, "Offer the built-in provider under /demo-idp. Never with real patients.")
    accounts: tuple[DemoAccount, ...] = setting([], "Each made-up person.")


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """[access]: who gets in, and for how long."""

    session_idle_minutes: float = setting(
        30.0, "A session ends after so long without use.", low=0.001, high=1440
    )
    session_hours: float = setting(10.0, "A session ends after so long in any case.", low=0.001, high=72)
    roles_minutes: float = setting(
        60.0,
        "After so long the identity provider is asked again who somebody is, what roles they have: by a page"
        " that is opened, without a word to its reader. What an open page still does by itself ends after"
        " twice that.",
        low=0.001,
        high=1440,
    )
    token_hours: float = setting(12.0, "Life of an access token for an app.", low=0.001, high=48)
    exchanged_token_minutes: float = setting(
        15.0, "Life of a token for one member that an app gets for its own.", low=0.05, high=60
    )
    signins_per_address: int = setting(
        500,
        "Sign-ins begun and not ended from one address (of IPv6: from one /64); beyond, the oldest is"
        " forgotten.",
        low=1,
        high=20_000,
    )
    signins_per_minute: int = setting(
        600,
        "Sign-ins that one address may begin in a minute, and logout tokens that are none; 0 = without"
        " bound. A trust may be one address.",
        low=0,
        high=100_000,
    )
    exchanges_per_minute: int = setting(
        1200,
        "Tokens that one app or person may have exchanged in a minute; 0 = without bound.",
        low=0,
        high=1_000_000,
    )
    failures_per_account: int = setting(
        5, "Failed sign-ins with one name before it must wait.", low=1, high=1000
    )
    failures_per_address: int = setting(
        30, "Failed sign-ins from one address before it must wait.", low=1, high=10000
    )
    failure_window_minutes: float = setting(
        5.0, "The window in which failures are counted.", low=0.01, high=1440
    )
    oidc: OidcConfig = section(
        OidcConfig, "The identity provider (OpenID Connect, authorisation code with PKCE)."
    )
    demo: DemoConfig = section(DemoConfig, "A built-in provider for demonstrations only.")
