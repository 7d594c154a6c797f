"""AccessService."""

import grpc

from visagedb.v1 import access_pb2, access_pb2_grpc
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.store import ApiKeyRecord
from visagedb_server import convert, names, paging
from visagedb_server.access import current_caller
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.roles import Role

_ROLES = {
    Role.READER: access_pb2.ROLE_READER,
    Role.ENROLLER: access_pb2.ROLE_ENROLLER,
    Role.ADMIN: access_pb2.ROLE_ADMIN,
    Role.AUDITOR: access_pb2.ROLE_AUDITOR,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}


class AccessService(access_pb2_grpc.AccessServiceServicer):
    """API keys: create, list, revoke."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    def CreateApiKey(  # noqa: N802
        self, request: access_pb2.CreateApiKeyRequest, context: grpc.ServicerContext
    ) -> access_pb2.CreateApiKeyResponse:
        """Makes a key; its text is in this answer and nowhere else."""
        asked = request.api_key
        if asked.role not in _ROLE_OF:
            raise InvalidArgumentError("choose a role for the key", {"field": "api_key.role"})
        if bool(asked.galleries) == asked.all_galleries:
            raise InvalidArgumentError(
                "give either galleries or all_galleries", {"field": "api_key.galleries"}
            )
        galleries = [names.parse_gallery(name) for name in asked.galleries]
        record, text = self._keys.create(
            _ROLE_OF[asked.role],
            None if asked.all_galleries else galleries,
            display_name=asked.display_name,
            expire_time_us=(
                convert.microseconds(asked.expire_time) if asked.HasField("expire_time") else None
            ),
        )
        return access_pb2.CreateApiKeyResponse(api_key=_message(record), secret=text)

    def ListApiKeys(  # noqa: N802
        self, request: access_pb2.ListApiKeysRequest, context: grpc.ServicerContext
    ) -> access_pb2.ListApiKeysResponse:
        """All keys, oldest first."""
        size = paging.page_size(request.page_size)
        after = paging.read_token(request.page_token, "apiKeys")
        keys = [_message(record) for record in self._keys.all()]
        places = [place for place, key in enumerate(keys) if key.name == after]
        page, more = paging.cut_page(keys[places[0] + 1 if places else 0 :], size)
        token = paging.token_after(page[-1].name, "apiKeys") if more else ""
        return access_pb2.ListApiKeysResponse(api_keys=page, next_page_token=token)

    def RevokeApiKey(  # noqa: N802
        self, request: access_pb2.RevokeApiKeyRequest, context: grpc.ServicerContext
    ) -> access_pb2.RevokeApiKeyResponse:
        """Refuses a key from now on."""
        record = self._keys.revoke(names.parse_api_key(request.name))
        return access_pb2.RevokeApiKeyResponse(api_key=_message(record))

    def GetCaller(  # noqa: N802
        self, request: access_pb2.GetCallerRequest, context: grpc.ServicerContext
    ) -> access_pb2.GetCallerResponse:
        """Who the server takes the caller for."""
        caller = current_caller()
        return access_pb2.GetCallerResponse(
            api_key=names.api_key_name(caller.key_id) if caller.key_id else "",
            role=_ROLES[caller.role],
            galleries=[names.gallery_name(one) for one in sorted(caller.galleries or ())],
            all_galleries=caller.galleries is None,
        )


def _message(record: ApiKeyRecord) -> access_pb2.ApiKey:
    message = access_pb2.ApiKey(
        name=names.api_key_name(record.id),
        display_name=record.display_name,
        role=_ROLES[Role(record.role)],
        galleries=[names.gallery_name(one) for one in record.galleries or ()],
        all_galleries=record.galleries is None,
        create_time=convert.timestamp(record.create_time_us),
    )
    if record.expire_time_us is not None:
        message.expire_time.CopyFrom(convert.timestamp(record.expire_time_us))
    if record.revoke_time_us is not None:
        message.revoke_time.CopyFrom(convert.timestamp(record.revoke_time_us))
    return message
