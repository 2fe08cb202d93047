"""Buckets that answer the S3 API: opened as the configuration says, their errors as errors of ours.

The library is loaded where a store is configured and nowhere else. Its own errors carry addresses and answers
of the store: none of their text goes on.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from crosslight.standards.problem import ConfigError, Forbidden, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

_CONNECT_S: Final = 5
_ANSWER_S: Final = 60
_RETRIES: Final = 2
_KEYS: Final = ("access_key_id", "secret_access_key", "session_token")


class BucketSettings(Protocol):
    """What a section of the configuration says of a bucket."""

    @property
    def url(self) -> str:
        """s3://bucket/prefix."""
        ...

    @property
    def endpoint(self) -> str:
        """Its address; '': the region's own."""
        ...

    @property
    def region(self) -> str:
        """Its region."""
        ...

    @property
    def credentials_file(self) -> str:
        """In the node's folder; '': the environment's are used."""
        ...

    @property
    def anonymous(self) -> bool:
        """Whether it is asked without credentials."""
        ...

    @property
    def tls_ca(self) -> str:
        """PEM file; '': the machine's authorities."""
        ...


def check_bucket(settings: BucketSettings, section: str) -> None:
    """Refuse what names no bucket.

    Raises:
        ConfigError: naming the key.
    """
    if not settings.url.startswith("s3://") or not settings.url.removeprefix("s3://").strip("/"):
        raise ConfigError(
            f"{settings.url!r} is no object store.", todo="s3://bucket/prefix", where=f"{section}.url"
        )
    if settings.endpoint and not settings.endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{settings.endpoint!r} is no address.", where=f"{section}.endpoint")


def opened_bucket(settings: BucketSettings, folder: Path, section: str) -> S3Store:
    """The bucket that a section names; files that it names lie in ``folder``.

    Raises:
        ConfigError: it cannot be used.
    """
    # one request for each object that is removed: not all servers know the one for many
    plain = {"region": settings.region, "disable_bulk_delete": "true"}
    options = {**plain, **_credentials(settings.credentials_file, folder, section)}
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if settings.anonymous:
        options["skip_signature"] = "true"
    try:
        authorities = (folder / settings.tls_ca).read_bytes() if settings.tls_ca else b""
        return bucket(settings.url, options, authorities)
    except OSError as error:
        raise ConfigError(
            "The authorities of an object store cannot be read.",
            why=error.strerror or "",
            where=settings.tls_ca,
        ) from None
    except Exception:  # noqa: BLE001 - the library has several; their text may hold what was configured
        raise ConfigError(f"The object store of [{section}] cannot be set up.", where=section) from None


def bucket(url: str, options: dict[str, str], authorities: bytes) -> S3Store:
    """The store of an ``s3://bucket/prefix``.

    Args:
        url: Where it is.
        options: What the library calls them: endpoint, region, access_key_id, secret_access_key and others.
        authorities: PEM of the authorities of its certificate; b'': those of the machine.
    """
    from obstore.store import S3Store

    name, _, prefix = url.removeprefix("s3://").partition("/")
    client: dict[str, Any] = {
        "allow_http": options.get("endpoint", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "timeout": timedelta(hours=1),
        "read_timeout": timedelta(seconds=_ANSWER_S),
    }
    if authorities:
        client["root_certificate"] = authorities
    made: S3Store = S3Store(
        name,
        prefix=prefix.strip("/") or None,
        config=options,  # type: ignore[arg-type]  # its keys are the library's, checked by it
        client_options=client,  # type: ignore[arg-type]  # as its own TypedDict has it
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_ANSWER_S)},
    )
    return made


def _credentials(file: str, folder: Path, section: str) -> dict[str, str]:
    """Key and secret of the file; {} where the environment has them (AWS_ACCESS_KEY_ID and its like)."""
    if not file:
        return {}
    where, path = f"{section}.credentials_file", folder / file
    try:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise ConfigError(
                "Others may read the file of an object store's credentials.",
                todo=f"chmod 600 {path}",
                where=where,
            )
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            "The credentials of an object store cannot be read.", why=error.strerror or "", where=where
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError("The file of credentials is not TOML.", where=where) from None
    if unknown := found.keys() - set(_KEYS):
        known = ", ".join(_KEYS)
        raise ConfigError(
            f"The file of credentials has {len(unknown)} unknown keys.",
            todo=f"Known here: {known}.",
            where=where,
        )
    return {name: str(value) for name, value in found.items()}


@contextmanager
def as_ours(altered: Callable[[], Exception] | None = None, *, absent: str = "") -> Iterator[None]:
    """What the library raises, as errors of ours.

    Args:
        altered: Made where an object is not the version that was asked for.
        absent: What it means that something is not there.

    Raises:
        NotFound, Forbidden, Unavailable: by what the store answered; or what ``altered`` makes.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError:
        if absent:
            raise Unavailable(absent, todo="Look at its url in the configuration.") from None
        raise NotFound("The object is not in the store any more.") from None
    except exceptions.PreconditionError as error:
        raise altered() if altered is not None else _unusable(error) from None
    except exceptions.UnauthenticatedError:
        raise Unavailable("The object store does not take the credentials.") from None
    except exceptions.PermissionDeniedError:
        raise Forbidden("The object store refuses this.", todo="Look at what its key may do.") from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise _unusable(error) from None


def _unusable(error: Exception) -> Unavailable:
    return Unavailable("The object store does not answer as it should.", why=_kind(error))


def _kind(error: Exception) -> str:
    """What sort of trouble it is, without the store's own words."""
    text = str(error)
    for sign, meaning in _KINDS.items():
        if sign in text:
            return meaning
    return "It answers with an error."


_KINDS: Final = {
    "403 Forbidden": "It does not take the credentials.",
    "401 Unauthorized": "It does not take the credentials.",
    "kind: Connect": "It cannot be reached.",
    "kind: Timeout": "It takes too long.",
    "kind: Interrupted": "It broke off.",
    "kind: Decode": "It broke off.",
    "kind: Request": "It broke off.",
}
