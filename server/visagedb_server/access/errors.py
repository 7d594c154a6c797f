"""What a caller is told who may not do what it asked for. Part of the engine's tree of errors."""

from visagedb_indexer.errors import (
    ExhaustedError,
    IndexerError,
    NotFoundError,
    UnavailableError,
)


class UnauthenticatedError(IndexerError):
    """The server does not know the caller."""

    reason = "UNAUTHENTICATED"


class ApiKeyMissingError(UnauthenticatedError):
    """A key is needed, and the call carries none."""

    reason = "API_KEY_MISSING"


class ApiKeyInvalidError(UnauthenticatedError):
    """There is no such key: unknown, mistyped, or with another secret."""

    reason = "API_KEY_INVALID"


class ApiKeyExpiredError(UnauthenticatedError):
    """The key was right until its expiry."""

    reason = "API_KEY_EXPIRED"


class ApiKeyRevokedError(UnauthenticatedError):
    """The key was right until it was revoked."""

    reason = "API_KEY_REVOKED"


class PermissionDeniedError(IndexerError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class RoleNotSufficientError(PermissionDeniedError):
    """The key's role does not include this method."""

    reason = "ROLE_NOT_SUFFICIENT"


class GalleryNotGrantedError(PermissionDeniedError):
    """The key was given other galleries."""

    reason = "GALLERY_NOT_GRANTED"


class NoAccessRuleError(PermissionDeniedError):
    """Nobody has decided yet who may call the method, so nobody may."""

    reason = "NO_ACCESS_RULE"


class ApiKeyNotFoundError(NotFoundError):
    """There is no key of this id."""

    reason = "API_KEY_NOT_FOUND"


class TooManyWrongKeysError(ExhaustedError):
    """This peer has sent too many wrong keys; a right one is taken at any time."""

    reason = "TOO_MANY_WRONG_KEYS"


class AuditLogUnavailableError(UnavailableError):
    """What happens cannot be written down at present, so it may not happen."""

    reason = "AUDIT_LOG_UNAVAILABLE"
