"""The error tree and its one table."""

import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

import visagedb
from visagedb import _errors as errors
from visagedb._delivery import is_transient
from visagedb._error_tables import ERROR_BY_CODE, ERROR_BY_REASON
from visagedb._translate import error_from_status
from visagedb.v1.errors_pb2 import ErrorReason

PREFIX = "ERROR_REASON_"
REASONS = sorted(
    name.removeprefix(PREFIX)
    for name in ErrorReason.DESCRIPTOR.values_by_name
    if not name.endswith("_UNSPECIFIED")
)


def status(code: int, reason: str, domain: str = "visagedb") -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"gallery": "staff"})
    detail = Any()
    detail.Pack(info)
    return status_pb2.Status(code=code, message="it went wrong", details=[detail])


def test_every_reason_of_the_contract_has_a_class() -> None:
    assert set(REASONS) == set(ERROR_BY_REASON)


def test_every_status_code_but_ok_has_a_class() -> None:
    codes = {code.name for code in grpc.StatusCode} - {"OK"}
    assert codes == set(ERROR_BY_CODE)


def test_every_class_is_public_and_can_be_raised_by_the_server() -> None:
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert all(getattr(visagedb, cls.__name__) is cls for cls in classes)
    reached = set(ERROR_BY_REASON.values()) | set(ERROR_BY_CODE.values())
    assert classes - reached == {errors.VisageError, errors.ServerUnreachableError}


@pytest.mark.parametrize("reason", REASONS)
def test_reason_gives_the_class(reason: str) -> None:
    error = error_from_status(status(code_pb2.INTERNAL, reason))
    assert type(error) is ERROR_BY_REASON[reason]
    assert error.reason == reason
    assert error.metadata == {"gallery": "staff"}
    assert str(error) == "it went wrong"


def test_unknown_reason_falls_back_to_the_code() -> None:
    error = error_from_status(status(code_pb2.NOT_FOUND, "PLANET_NOT_FOUND"))
    assert type(error) is visagedb.NotFoundError
    assert error.reason == "PLANET_NOT_FOUND"


def test_reasons_of_other_domains_are_not_ours() -> None:
    error = error_from_status(status(code_pb2.UNAVAILABLE, "NO_FACE", domain="proxy.example"))
    assert type(error) is visagedb.UnavailableError


def test_field_violations_travel() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="top_k", description="too many")
    detail = Any()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    message = status(code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    message.details.append(detail)
    error = error_from_status(message)
    assert error.field_violations == (visagedb.FieldViolation("top_k", "too many"),)
    assert error.to_dict()["field_violations"] == [{"field": "top_k", "description": "too many"}]


def test_errors_survive_pickling() -> None:
    error = error_from_status(status(code_pb2.NOT_FOUND, "GALLERY_NOT_FOUND"))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert copy.to_dict() == error.to_dict()


def test_deadline_is_a_timeout() -> None:
    assert issubclass(visagedb.DeadlineExceededError, TimeoutError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (visagedb.OverloadedError("later"), True),
        (visagedb.WorkersUnavailableError("later"), True),
        (visagedb.ServerUnreachableError("nobody"), True),
        (visagedb.ResourceExhaustedError("concurrent RPC limit"), True),
        (visagedb.ResourceExhaustedError("Sent message larger than max (9 vs. 4)"), False),
        (visagedb.StorageFullError("full"), False),
        (visagedb.LimitExceededError("limit"), False),
        (visagedb.NoFaceError("none"), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected
