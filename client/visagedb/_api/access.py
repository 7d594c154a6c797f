"""Methods about API keys."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from visagedb._access import ApiKey, Caller, NewApiKey
from visagedb._call import Call, Page, Pages, call
from visagedb._moments import moment
from visagedb._names import gallery_name, last_id
from visagedb._values import Role
from visagedb.v1 import access_pb2 as pb

_ROLES: Final[Mapping[Role, pb.Role.ValueType]] = {
    Role.READER: pb.ROLE_READER,
    Role.ENROLLER: pb.ROLE_ENROLLER,
    Role.ADMIN: pb.ROLE_ADMIN,
    Role.AUDITOR: pb.ROLE_AUDITOR,
}
_ROLE_OF: Final = {number: role for role, number in _ROLES.items()}


def get_caller(*, timeout: float | None = None) -> Call[Caller]:
    """Who the server takes this client for.

    Raises:
        UnauthenticatedError: It needs a key, and this client has no valid one.
    """
    return call(
        "AccessService/GetCaller",
        pb.GetCallerRequest(),
        pb.GetCallerResponse,
        lambda answer: Caller(
            last_id(answer.api_key) if answer.api_key else "",
            _ROLE_OF.get(answer.role, Role.UNKNOWN),
            _galleries(answer.galleries, answer.all_galleries),
        ),
        timeout,
    )


def create_api_key(
    role: Role | str,
    galleries: Collection[str] | None,
    *,
    display_name: str = "",
    expire_time: datetime | None = None,
    timeout: float | None = None,
) -> Call[NewApiKey]:
    """Makes an API key. Its text is in the result and cannot be had again.

    From the first key on the server needs one of every caller. The first is an admin of all
    galleries.

    Args:
        role: What the key is for.
        galleries: Ids of the galleries that it sees, which need not exist yet; None for all.
        display_name: For people.
        expire_time: When it ceases to be valid; None for never.
        timeout: Seconds; None means the client's default.

    Raises:
        PermissionDeniedError: This client is no admin of the whole server.
    """
    if isinstance(galleries, str):
        raise TypeError("galleries is a list of ids, or None for all")
    key = pb.ApiKey(
        role=_ROLES[Role(role)],
        display_name=display_name,
        galleries=[gallery_name(one) for one in galleries or ()],
        all_galleries=galleries is None,
    )
    if expire_time is not None:
        key.expire_time.FromDatetime(expire_time)
    return call(
        "AccessService/CreateApiKey",
        pb.CreateApiKeyRequest(api_key=key),
        pb.CreateApiKeyResponse,
        lambda answer: NewApiKey(_api_key(answer.api_key), answer.secret),
        timeout,
    )


def list_api_keys(*, page_size: int = 0, timeout: float | None = None) -> Pages[ApiKey]:
    """All API keys, also those that are revoked or expired, oldest first.

    Args:
        page_size: Keys per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """

    def page(token: str) -> Call[Page[ApiKey]]:
        return call(
            "AccessService/ListApiKeys",
            pb.ListApiKeysRequest(page_size=page_size, page_token=token),
            pb.ListApiKeysResponse,
            lambda answer: Page(
                tuple(_api_key(one) for one in answer.api_keys), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def revoke_api_key(key: ApiKey | str, *, timeout: float | None = None) -> Call[ApiKey]:
    """Refuses a key from now on, for ever.

    Args:
        key: The key, or its id.
        timeout: Seconds; None means the client's default.

    Raises:
        NotFoundError: There is none of this id.
    """
    key_id = key.id if isinstance(key, ApiKey) else key.removeprefix("apiKeys/")
    return call(
        "AccessService/RevokeApiKey",
        pb.RevokeApiKeyRequest(name=f"apiKeys/{key_id}"),
        pb.RevokeApiKeyResponse,
        lambda answer: _api_key(answer.api_key),
        timeout,
    )


def _api_key(message: pb.ApiKey) -> ApiKey:
    return ApiKey(
        name=message.name,
        display_name=message.display_name,
        role=_ROLE_OF.get(message.role, Role.UNKNOWN),
        galleries=_galleries(message.galleries, message.all_galleries),
        create_time=moment(message.create_time),
        expire_time=moment(message.expire_time),
        revoke_time=moment(message.revoke_time),
    )


def _galleries(names: Iterable[str], every: bool) -> tuple[str, ...] | None:
    return None if every else tuple(last_id(name) for name in names)
