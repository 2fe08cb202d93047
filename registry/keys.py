"""The region's token key: signs access and release tokens and the directory.

Its public half is published as JWKS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files, one_at_a_time
from crosslight.runtime.signing import private_pem
from crosslight.standards.problem import ConfigError, kind_as_sentence


class TokenKeys:
    """``token-keys.json`` in the registry's folder (0600): private JWKs, the first one signs, all verify.

    To change the key put a new one first, and drop the old one when its last token has ended.
    """

    def __init__(self, path: Path, files: Files, ids: Ids) -> None:
        self._path, self._files, self._ids = path, files, ids
        self._keys: list[ECKey] = []

    def open(self) -> None:
        """Load the keys, or make the first.

        Raises:
            ConfigError: if the file is not what it should be, or can be read by others.
        """
        if not self._path.exists():
            with one_at_a_time(self._path.parent):
                if not self._path.exists():
                    first = ECKey.import_key(private_pem(self._ids.private_key()))
                    data = orjson.dumps({"keys": [first.as_dict(private=True)]})
                    self._files.write_atomic(self._path, data)
        if self._path.stat().st_mode & 0o077:
            raise ConfigError(f"{self._path} can be read by others.", todo="chmod 600, and make a new key.")
        try:
            stored = orjson.loads(self._path.read_bytes())["keys"]
            self._keys = [ECKey.import_key(jwk) for jwk in stored]
            for key in self._keys:
                key.ensure_kid()
            usable = bool(self._keys) and all(
                key.curve_name == "P-256" and key.is_private for key in self._keys
            )
        except (orjson.JSONDecodeError, JoseError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self._path} holds no token keys.", why=kind_as_sentence(error), todo="Restore it."
            ) from None
        if not usable:
            raise ConfigError(f"{self._path} holds no P-256 private key.", todo="Restore it from backup.")

    @property
    def signing(self) -> ECKey:
        """The key that signs."""
        if not self._keys:
            raise ConfigError("The token keys are not open.")
        return self._keys[0]

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        public = []
        for key in self._keys:
            public.append({**key.as_dict(private=False), "kid": key.kid, "use": "sig", "alg": "ES256"})
        return {"keys": public}
