"""Every method with every kind of caller.

What is expected is written down here once more, apart from the server's table of rules: a
method that nobody has decided about makes the test fail.
"""

from typing import Any, Final

import grpc
import pytest
from descriptors import Method, all_methods
from guarded import Guarded, raw_call
from wire import refusal_of

from visagedb_server import limits
from visagedb_server.access.roles import Role
from visagedb_server.access.rules import RULES, Scope

METHODS: Final = {method.path: method for method in all_methods()}

READERS: Final = {"reader", "enroller", "admin"}
ENROLLERS: Final = {"enroller", "admin"}
ADMINS: Final = {"admin"}
AUDITORS: Final = {"auditor", "admin"}
ALL: Final = {"reader", "enroller", "admin", "auditor"}

_EXPECTED: Final = {
    "visagedb.v1.GalleryService": {
        "CreateGallery": ADMINS, "GetGallery": READERS, "ListGalleries": READERS,
        "UpdateGallery": ADMINS, "DeleteGallery": ADMINS, "GetGalleryStats": READERS,
        "CalibrateGallery": ENROLLERS, "GetCalibration": READERS,
        "VerifyGalleryIntegrity": ADMINS, "SnapshotGallery": ADMINS,
    },
    "visagedb.v1.IdentityService": {
        "CreateIdentity": ENROLLERS, "GetIdentity": READERS, "ListIdentities": READERS,
        "UpdateIdentity": ENROLLERS, "DeleteIdentity": ENROLLERS, "EnrollFace": ENROLLERS,
        "StreamEnrollFaces": ENROLLERS, "GetFace": READERS, "ListFaces": READERS,
        "DeleteFace": ENROLLERS, "EnrollLooseFaces": ENROLLERS, "MoveFaces": ENROLLERS,
        "MergeIdentities": ENROLLERS, "SplitIdentity": ENROLLERS, "ListLineage": READERS,
        "UndoChange": ENROLLERS,
    },
    "visagedb.v1.SearchService": dict.fromkeys(
        ["Identify", "StreamIdentify", "FindFaces", "Verify", "DetectFaces", "EmbedFaces"], READERS
    ),
    "visagedb.v1.ClusterService": {
        "Cluster": ENROLLERS, "GetClustering": READERS, "ListClusterings": READERS,
        "DeleteClustering": ENROLLERS, "ListClusters": READERS, "ListClusterMembers": READERS,
        "AssignCluster": ENROLLERS, "JoinClusters": ENROLLERS, "SplitCluster": ENROLLERS,
        "UndoClusterEdit": ENROLLERS, "FindDuplicates": ENROLLERS,
    },
    "visagedb.v1.GalleryAuditService": {
        "AuditGallery": ENROLLERS, "GetGalleryAudit": READERS, "ListGalleryAuditFindings": READERS,
    },
    "visagedb.v1.QuarantineService": {
        "ListQuarantinedFaces": READERS, "AcceptQuarantinedFace": ENROLLERS,
        "DropQuarantinedFace": ENROLLERS,
    },
    "visagedb.v1.ImportService": {
        "ImportFaces": ENROLLERS, "GetImport": READERS, "ListImports": READERS,
        "ListImportFailures": READERS, "PauseImport": ENROLLERS, "ResumeImport": ENROLLERS,
        "ExportFaces": ADMINS,
    },
    "visagedb.v1.BackupService": dict.fromkeys(
        ["CreateBackup", "ListBackups", "RestoreGallery"], ADMINS
    ),
    "visagedb.v1.AccessService": {
        "CreateApiKey": ADMINS, "ListApiKeys": AUDITORS, "RevokeApiKey": ADMINS, "GetCaller": ALL,
    },
    "visagedb.v1.AuditLogService": {"ListAuditEntries": AUDITORS, "VerifyAuditLog": AUDITORS},
    "visagedb.v1.ErasureService": {
        "CompactGallery": ADMINS, "GetErasure": READERS, "ListErasures": READERS,
        "GetRetention": READERS, "ConfirmClock": ADMINS,
    },
    "google.longrunning.Operations": {
        "ListOperations": READERS, "GetOperation": READERS, "WaitOperation": READERS,
        "CancelOperation": ENROLLERS, "DeleteOperation": ENROLLERS,
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": ALL},
}  # fmt: skip
EXPECTED: Final = {
    f"/{service}/{name}": roles
    for service, methods in _EXPECTED.items()
    for name, roles in methods.items()
}
PUBLIC: Final = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}

BAD_KEYS: Final = {
    "none": "API_KEY_MISSING",
    "garbage": "API_KEY_INVALID",
    "unknown": "API_KEY_INVALID",
    "wrong": "API_KEY_INVALID",
    "revoked": "API_KEY_REVOKED",
    "expired": "API_KEY_EXPIRED",
}


@pytest.fixture(autouse=True)
def many_wrong_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRONG_KEYS_BURST", 1_000_000)
    monkeypatch.setattr(limits, "WRONG_KEY_SECONDS", 1e-6)


@pytest.fixture(scope="module")
def channel(guarded: Guarded) -> Any:
    with grpc.insecure_channel(guarded.server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def keys(guarded: Guarded) -> dict[str, str | None]:
    """A key of every kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visagedb_server.access.keys.now_us", lambda: 1_000_000)
        expired = guarded.key("admin", expire_time_us=2_000_000)
    revoked = guarded.key("admin")
    guarded.server.keys.revoke(revoked.split("_")[1])
    known = guarded.key("admin").split("_")[1]
    secret = "A" * 43
    return {
        **{role.value: guarded.key(role) for role in Role},
        "none": None,
        "garbage": "let me in",
        "unknown": f"vdb_{'0' * 16}_{secret}",
        "wrong": f"vdb_{known}_{secret}",
        "revoked": revoked,
        "expired": expired,
    }


def request_in(
    guarded: Guarded, method: Method, *, everything: str, but: str = "", at: str = ""
) -> Any:
    """A request whose names are all in one gallery, but for one path."""
    rule = RULES[method.path]
    request = method.request_type()
    # Of fields that exclude each other the one that is looked at is set last.
    for path in sorted((*rule.names, *rule.ids), key=lambda path: path == but):
        gallery = at if path == but else everything
        text = gallery if path in rule.ids else f"galleries/{gallery}/identities/x/faces/y"
        _put(request, path, text)
    if rule.scope is Scope.OPERATION:
        gallery = at if but == "name" else everything
        request.name = guarded.put_operation(f"of-{gallery}", gallery)
    return request


def _put(message: Any, path: str, text: str) -> None:
    field, _, rest = path.partition(".")
    if rest:
        _put(getattr(message, field), rest, text)
    elif isinstance(getattr(message, field), str):
        setattr(message, field, text)
    else:
        # The last of several counts as much as the first.
        names = [text.replace("/y", f"/{number}") for number in range(3)]
        getattr(message, field).extend(names)


def outcome(guarded: Guarded, channel: Any, method: Method, key: str | None, request: Any) -> str:
    """The reason of a refusal at the gate; empty when the call went through it."""
    try:
        raw_call(channel, method.path, method, request, key)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "UNIMPLEMENTED"
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return refusal_of(error).reason
    return ""


def test_the_matrix_has_every_method_and_no_other() -> None:
    assert set(EXPECTED) | PUBLIC == set(METHODS)


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_roles(path: str, guarded: Guarded, channel: Any, keys: dict[str, str | None]) -> None:
    method = METHODS[path]
    for role in Role:
        request = request_in(guarded, method, everything="mine")
        reason = outcome(guarded, channel, method, keys[role.value], request)
        if role.value in EXPECTED[path]:
            assert reason in ("", "UNIMPLEMENTED"), role
        else:
            assert reason == "ROLE_NOT_SUFFICIENT", role


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_keys_that_are_not_valid(
    path: str, guarded: Guarded, channel: Any, keys: dict[str, str | None]
) -> None:
    method = METHODS[path]
    for kind, expected in BAD_KEYS.items():
        request = request_in(guarded, method, everything="mine")
        assert outcome(guarded, channel, method, keys[kind], request) == expected, kind


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_health_is_for_everybody(
    path: str, guarded: Guarded, channel: Any, keys: dict[str, str | None]
) -> None:
    for key in keys.values():
        assert outcome(guarded, channel, METHODS[path], key, METHODS[path].request_type()) == ""


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_a_key_of_one_gallery_reaches_no_other_by_any_name(
    path: str, guarded: Guarded, channel: Any
) -> None:
    method, rule = METHODS[path], RULES[path]
    key = guarded.key("admin", "mine")

    def reason(**names: str) -> str:
        request = request_in(guarded, method, **names)
        return outcome(guarded, channel, method, key, request)

    if rule.scope is Scope.SERVER:
        assert reason(everything="mine") == "GALLERY_NOT_GRANTED"
        return
    through = reason(everything="mine")
    assert through in ("", "UNIMPLEMENTED")
    if rule.scope is Scope.OWN or (through and method.descriptor.client_streaming):
        return
    fields = ("name",) if rule.scope is Scope.OPERATION else (*rule.names, *rule.ids)
    for field in fields:
        assert reason(everything="mine", but=field, at="theirs") == "GALLERY_NOT_GRANTED", field
    if rule.scope is Scope.GALLERIES:
        empty = method.request_type()
        assert outcome(guarded, channel, method, key, empty) == "GALLERY_NOT_GRANTED"
    if rule.scope is Scope.OPERATION:
        assert reason(everything="") == "GALLERY_NOT_GRANTED"


def test_templates_leave_with_an_admin_only(
    guarded: Guarded, channel: Any, keys: dict[str, str | None]
) -> None:
    for name in ("GetFace", "ListFaces"):
        method = METHODS[f"/visagedb.v1.IdentityService/{name}"]
        for role in ("reader", "enroller", "admin"):
            request = request_in(guarded, method, everything="mine")
            request.include_template = True
            expected = "" if role == "admin" else "ROLE_NOT_SUFFICIENT"
            assert outcome(guarded, channel, method, keys[role], request) == expected
