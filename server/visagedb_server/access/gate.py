"""The gate: every call passes it before its handler runs, and each item of a stream again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from visagedb_server import names
from visagedb_server.access.caller import TRUSTED, Caller
from visagedb_server.access.errors import (
    GalleryNotGrantedError,
    NoAccessRuleError,
    RoleNotSufficientError,
)
from visagedb_server.access.roles import Permission
from visagedb_server.access.rules import RULES, Rule, Scope

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class Gate:
    """Decides who may pass.

    Args:
        gallery_of_operation: Id of the gallery of a long-running operation by its own id; empty
            for one of the whole server.
    """

    def __init__(self, gallery_of_operation: Callable[[str], str]) -> None:
        self._gallery_of_operation = gallery_of_operation

    def admit(self, method: str, metadata: Metadata) -> "Admission":
        """Lets a call through as far as that can be said without its request.

        Args:
            method: ``/package.Service/Method``.
            metadata: What the call carries beside its request.

        Raises:
            NoAccessRuleError: The method has no rule.
            RoleNotSufficientError: The caller's role does not include it.
        """
        rule = RULES.get(method)
        if rule is None:
            raise NoAccessRuleError(f"{method} has no rule in access/rules.py, so nobody may")
        caller = TRUSTED
        if rule.needs is not None:
            _check_permission(caller, rule.needs, method)
        return Admission(self, rule, caller, method)

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

    def check(self, request: Any) -> None:
        """Checks one request: that of a call, or one item of a stream.

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
