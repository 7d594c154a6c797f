"""API keys of a data directory that no server uses at the moment: how the first one is made."""

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from visagedb import ApiKey, NewApiKey, Role
from visagedb_indexer.database import Database
from visagedb_indexer.errors import IndexerError
from visagedb_indexer.store import ApiKeyRecord
from visagedb_server import names
from visagedb_server.access import roles
from visagedb_server.access.keys import ApiKeys


class LocalKeys:
    """The methods of a client that are about keys, on a data directory."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    def create_api_key(
        self,
        role: Role,
        galleries: Collection[str] | None,
        *,
        display_name: str = "",
        expire_time: datetime | None = None,
    ) -> NewApiKey:
        """Makes a key; see `visagedb.Client.create_api_key`."""
        record, text = self._keys.create(
            roles.Role(role.value),
            galleries,
            display_name=display_name,
            expire_time_us=None if expire_time is None else int(expire_time.timestamp() * 1e6),
        )
        return NewApiKey(_key(record), text)

    def list_api_keys(self) -> list[ApiKey]:
        """All keys, oldest first."""
        return [_key(record) for record in self._keys.all()]

    def revoke_api_key(self, key: str) -> ApiKey:
        """Refuses a key from now on."""
        return _key(self._keys.revoke(key))


@contextmanager
def local_keys(data: Path) -> Iterator[LocalKeys]:
    """The keys of a data directory, which is owned meanwhile.

    Raises:
        OSError: It belongs to a running server, or it cannot be used, or the key is refused.
    """
    try:
        with closing(Database(data)) as database:
            yield LocalKeys(ApiKeys(database.catalogue))
    except IndexerError as error:
        # The command line knows the client's errors and those of files.
        raise OSError(error.message) from error


def _key(record: ApiKeyRecord) -> ApiKey:
    return ApiKey(
        name=names.api_key_name(record.id),
        display_name=record.display_name,
        role=Role(record.role),
        galleries=record.galleries,
        create_time=_moment(record.create_time_us),
        expire_time=_moment(record.expire_time_us),
        revoke_time=_moment(record.revoke_time_us),
    )


def _moment(time_us: int | None) -> datetime | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC)
