"""The gate: every call passes it before its handler runs, and each item of a stream again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visagedb_indexer.errors import IndexerError
from visagedb_server import limits, names
from visagedb_server.access.caller import NOBODY, TRUSTED, Caller
from visagedb_server.access.damping import WrongKeys
from visagedb_server.access.errors import (
    ApiKeyInvalidError,
    ApiKeyMissingError,
    GalleryNotGrantedError,
    NoAccessRuleError,
    RoleNotSufficientError,
    TooManyWrongKeysError,
)
from visagedb_server.access.keys import ApiKeys, Metadata
from visagedb_server.access.roles import Permission
from visagedb_server.access.rules import RULES, Rule, Scope


class Gate:
    """Decides who may pass.

    Args:
        keys: The API keys.
        gallery_of_operation: Id of the gallery of a long-running operation by its own id; empty
            for one of the whole server.
        require_keys: Whether a key is needed even while there are none.
    """

    def __init__(
        self, keys: ApiKeys, gallery_of_operation: Callable[[str], str], *, require_keys: bool
    ) -> None:
        self._keys = keys
        self._gallery_of_operation = gallery_of_operation
        self._require_keys = require_keys
        self._wrong_keys = WrongKeys()

    @property
    def needs_keys(self) -> bool:
        """Whether callers need a key."""
        return self._require_keys or self._keys.exist

    @staticmethod
    def is_public(method: str) -> bool:
        """Whether anybody may call a method, so that nothing of it need be looked at."""
        rule = RULES.get(method)
        return rule is not None and rule.public

    def admit(self, method: str, metadata: Metadata) -> "Admission":
        """Lets a call through as far as that can be said without its request.

        Args:
            method: ``/package.Service/Method``.
            metadata: What the call carries beside its request.

        Raises:
            NoAccessRuleError: The method has no rule.
            UnauthenticatedError: A key is needed, and there is none, or one that is not valid.
            RoleNotSufficientError: The caller's role does not include it.
        """
        rule = RULES.get(method)
        if rule is None:
            raise NoAccessRuleError(f"{method} has no rule in access/rules.py, so nobody may")
        if rule.public:
            return Admission(self, rule, NOBODY, method)
        caller = self._keys.authenticate(metadata) if self.needs_keys else TRUSTED
        if rule.needs is not None:
            _check_permission(caller, rule.needs, method)
        return Admission(self, rule, caller, method)

    def damped(self, error: IndexerError, peer: str) -> IndexerError:
        """What the sender of a call that was not let in is told.

        Args:
            error: What `admit` raised.
            peer: As gRPC names it.
        """
        if not isinstance(error, ApiKeyInvalidError) or self._wrong_keys.admit(peer):
            return error
        return TooManyWrongKeysError(
            "too many wrong keys; a right one is taken at any time",
            # What `errors.RETRY_KEY` calls the delay; that module knows this room's errors.
            {"retry_delay_ms": f"{1000 * limits.WRONG_KEY_SECONDS:.0f}"},
        )

    def check_again(self, caller: Caller) -> None:
        """Looks whether the caller of a stream is still let in.

        Raises:
            UnauthenticatedError: Its key was revoked or has expired, or keys are needed by now.
        """
        if caller.key_id:
            self._keys.check_valid(caller.key_id)
        elif self.needs_keys:
            raise ApiKeyMissingError("by now this server needs an API key")

    def check_operation(self, caller: Caller, name: str, needs: Permission, method: str) -> None:
        """Checks a call about a long-running operation.

        Raises:
            GalleryNotGrantedError: It belongs to a gallery that the caller was not given.
            OperationNotFoundError: There is none.
        """
        gallery_id = self._gallery_of_operation(names.parse_operation(name))
        _check_galleries(caller, {gallery_id})
        if not gallery_id and needs is not Permission.READ:
            _check_permission(caller, Permission.ADMINISTER, method)


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let in, whose requests are still to be looked at.

    Attributes:
        rule: Of the method.
        caller: Whom the call comes from.
        method: ``/package.Service/Method``.
    """

    _gate: Gate
    rule: Rule
    caller: Caller
    method: str

    def check_item(self, request: Any) -> None:
        """Checks one item of a stream, as `check` does, and whether the key is still valid.

        Raises:
            UnauthenticatedError: It is not.
        """
        self._gate.check_again(self.caller)
        self.check(request)

    def check(self, request: Any) -> None:
        """Checks one request.

        Raises:
            GalleryNotGrantedError: It is about a gallery that the caller was not given.
            RoleNotSufficientError: It takes templates out, and the role does not include that.
            InvalidNameError: It names something that is in no gallery.
        """
        caller, rule = self.caller, self.rule
        if rule.exports is not None and rule.exports(request):
            _check_permission(caller, Permission.EXPORT, self.method)
        if rule.scope is Scope.OPERATION:
            assert rule.needs is not None
            self._gate.check_operation(caller, request.name, rule.needs, self.method)
        elif caller.galleries is None or rule.scope is Scope.OWN:
            return
        elif rule.scope is Scope.SERVER:
            _check_galleries(caller, {""})
        else:
            galleries = rule.galleries(request)
            if rule.scope is Scope.GALLERIES:
                # A request that names none is not about the caller's.
                galleries = galleries or {""}
            _check_galleries(caller, galleries)


def _check_permission(caller: Caller, permission: Permission, method: str) -> None:
    if not caller.may(permission):
        what = method.rpartition("/")[2]
        raise RoleNotSufficientError(
            f"a key of the role {caller.role} may not {permission}, which {what} needs",
            {"role": caller.role, "permission": permission},
        )


def _check_galleries(caller: Caller, galleries: set[str]) -> None:
    for gallery_id in sorted(galleries):
        if not caller.sees(gallery_id):
            # The same whether the gallery exists or not.
            what = f"the gallery {gallery_id[:200]!r}" if gallery_id else "the whole server"
            raise GalleryNotGrantedError(
                f"this key was not given {what}", {"gallery": gallery_id[:200]}
            )
