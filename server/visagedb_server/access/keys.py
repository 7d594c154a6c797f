"""API keys: made, kept as salted hashes, recognised, revoked.

A key's text is ``vdb_{id}_{secret}``. The id is public; the secret has 256 random bits, so that
a fast hash protects it as well as a slow one would (docs/decisions/0022).
"""

import hmac
import re
import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import IndexerError, InvalidArgumentError, LimitExceededError
from visagedb_indexer.limits import DISPLAY_NAME_LENGTH_MAX
from visagedb_indexer.store import ApiKeyRecord, Catalogue
from visagedb_indexer.validation import check_id, check_text
from visagedb_server import limits
from visagedb_server.access.caller import Caller
from visagedb_server.access.errors import (
    ApiKeyExpiredError,
    ApiKeyInvalidError,
    ApiKeyMissingError,
    ApiKeyNotFoundError,
    ApiKeyRevokedError,
)
from visagedb_server.access.roles import Role

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 16
_TEXT: Final = re.compile(r"vdb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_INVALID: Final = (
    "the API key is not valid here; visagedb keys list shows the ids of those that are"
)
# Compared with when there is no key of the id, so that the time of the answer tells nothing.
_NO_SUCH_KEY: Final = ApiKeyRecord("", Role.READER, secrets.token_bytes(_SALT_BYTES), bytes(32), 0)


class ApiKeys:
    """The keys of one data directory, in memory and in its catalogue.

    Args:
        catalogue: Where they are kept.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._keys = {record.id: record for record in catalogue.api_keys()}

    @property
    def exist(self) -> bool:
        """Whether there are any, be they valid or not: from the first one on, keys are needed.

        That the last one was revoked does not open a server to everybody.
        """
        return bool(self._keys)

    @property
    def usable_admin(self) -> bool:
        """Whether a valid key is an admin of the whole server."""
        return any(
            record.role == Role.ADMIN and record.galleries is None and _why_invalid(record) is None
            for record in list(self._keys.values())
        )

    def create(
        self,
        role: Role,
        galleries: Collection[str] | None,
        *,
        display_name: str = "",
        expire_time_us: int | None = None,
    ) -> tuple[ApiKeyRecord, str]:
        """Makes a key.

        Args:
            role: What it is for.
            galleries: Ids of the galleries that it sees, which need not exist yet; None for all.
            display_name: For people.
            expire_time_us: When it ceases to be valid; None for never.

        Returns:
            The key and its text, which cannot be had again.

        Raises:
            InvalidArgumentError: An argument is not valid, or the first key is not an admin.
            LimitExceededError: There are too many keys.
        """
        granted = None if galleries is None else _checked_galleries(galleries)
        check_text(display_name, "display_name", DISPLAY_NAME_LENGTH_MAX)
        now = now_us()
        if expire_time_us is not None and expire_time_us <= now:
            raise InvalidArgumentError("the expiry has passed already", {"field": "expire_time"})
        secret, salt = secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(_SALT_BYTES)
        with self._lock:
            if not self.usable_admin and (role is not Role.ADMIN or granted is not None):
                raise InvalidArgumentError(
                    "without a valid admin key of the whole server nobody could manage keys: "
                    "make that one first",
                    {"field": "role"},
                )
            if len(self._keys) >= limits.API_KEYS_MAX:
                raise LimitExceededError(f"there are {limits.API_KEYS_MAX} keys, the most")
            record = ApiKeyRecord(
                id=self._new_id(),
                role=role.value,
                salt=salt,
                digest=_digest(salt, secret),
                create_time_us=now,
                display_name=display_name,
                galleries=granted,
                expire_time_us=expire_time_us,
            )
            self._catalogue.put_api_key(record)
            self._keys[record.id] = record
        return record, f"vdb_{record.id}_{secret}"

    def _new_id(self) -> str:
        while (new := secrets.token_hex(8)) in self._keys:
            pass
        return new

    def all(self) -> list[ApiKeyRecord]:
        """All keys, oldest first."""
        with self._lock:
            return sorted(self._keys.values(), key=lambda one: (one.create_time_us, one.id))

    def revoke(self, key_id: str) -> ApiKeyRecord:
        """Refuses a key from now on; one that is revoked already stays as it is.

        Raises:
            ApiKeyNotFoundError: There is none of this id.
        """
        with self._lock:
            record = self._keys.get(key_id)
            if record is None:
                raise ApiKeyNotFoundError(f"there is no API key {key_id[:200]!r}")
            if record.revoke_time_us is None:
                record = replace(record, revoke_time_us=now_us())
                self._catalogue.put_api_key(record)
                self._keys[key_id] = record
            return record

    def authenticate(self, metadata: Metadata) -> Caller:
        """Who sends a call, by the key that it carries.

        Raises:
            ApiKeyMissingError: It carries none.
            ApiKeyInvalidError: It is not the text of a key, or there is no such key.
            ApiKeyRevokedError: It was revoked.
            ApiKeyExpiredError: It has expired.
        """
        match = _TEXT.fullmatch(_bearer(metadata))
        if match is None:
            raise ApiKeyInvalidError(_INVALID)
        key_id, secret = match.groups()
        known = self._keys.get(key_id, _NO_SUCH_KEY)
        right = hmac.compare_digest(_digest(known.salt, secret), known.digest)
        if not right or known is _NO_SUCH_KEY:
            raise ApiKeyInvalidError(_INVALID)
        self.check_valid(key_id)
        galleries = None if known.galleries is None else frozenset(known.galleries)
        return Caller(key_id, Role(known.role), galleries)

    def check_valid(self, key_id: str) -> None:
        """Looks again whether a key that was right is still valid.

        Raises:
            ApiKeyRevokedError: It was revoked.
            ApiKeyExpiredError: It has expired.
        """
        error = _why_invalid(self._keys[key_id])
        if error is not None:
            raise error


def _why_invalid(record: ApiKeyRecord) -> IndexerError | None:
    if record.revoke_time_us is not None:
        return ApiKeyRevokedError("the API key was revoked", {"api_key": record.id})
    if record.expire_time_us is not None and record.expire_time_us <= now_us():
        return ApiKeyExpiredError("the API key has expired", {"api_key": record.id})
    return None


def _bearer(metadata: Metadata) -> str:
    """The key that a call carries."""
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        raise ApiKeyMissingError(
            "this server needs an API key; give it as VISAGEDB_API_KEY, or as the metadata "
            "'authorization: Bearer KEY'"
        )
    [value, *more] = values
    scheme, _, text = str(value).partition(" ")
    return text.strip() if not more and scheme.lower() == "bearer" else ""


def _checked_galleries(galleries: Collection[str]) -> tuple[str, ...]:
    if not galleries:
        raise InvalidArgumentError(
            "a key sees some galleries or all of them; name them", {"field": "galleries"}
        )
    if len(galleries) > limits.API_KEY_GALLERIES_MAX:
        raise InvalidArgumentError(
            f"a key names at most {limits.API_KEY_GALLERIES_MAX} galleries", {"field": "galleries"}
        )
    return tuple(sorted({check_id(one, "gallery") for one in galleries}))


def _digest(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode(), "sha256")
