import pickle
from collections.abc import Iterator

import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2

from visagedb.v1 import errors_pb2
from visagedb_indexer import errors
from visagedb_server.access import errors as access_errors
from visagedb_server.errors import CODES, DOMAIN, code_of, status_of


def tree(base: type[errors.IndexerError]) -> Iterator[type[errors.IndexerError]]:
    yield base
    for child in base.__subclasses__():
        if child in (getattr(module, child.__name__, None) for module in (errors, access_errors)):
            yield from tree(child)


ALL = sorted(tree(errors.IndexerError), key=lambda kind: kind.__name__)
CODE_OF_THE_CONTRACT = {
    range(1, 40): code_pb2.INVALID_ARGUMENT,
    range(40, 60): code_pb2.NOT_FOUND,
    range(60, 80): code_pb2.ALREADY_EXISTS,
    range(80, 100): code_pb2.ABORTED,
    range(100, 140): code_pb2.FAILED_PRECONDITION,
    range(140, 160): code_pb2.RESOURCE_EXHAUSTED,
    range(160, 180): code_pb2.UNAVAILABLE,
    range(180, 181): code_pb2.DEADLINE_EXCEEDED,
    range(181, 182): code_pb2.CANCELLED,
    range(182, 183): code_pb2.DATA_LOSS,
    range(183, 184): code_pb2.UNIMPLEMENTED,
    range(184, 185): code_pb2.INTERNAL,
    range(200, 220): code_pb2.UNAUTHENTICATED,
    range(220, 240): code_pb2.PERMISSION_DENIED,
}


def unpacked(packed: any_pb2.Any, kind: type) -> object:
    message = kind()
    assert packed.Unpack(message)
    return message


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_reason_and_the_code_of_the_contract(
    kind: type[errors.IndexerError],
) -> None:
    number = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{kind.reason}")
    expected = next(code for numbers, code in CODE_OF_THE_CONTRACT.items() if number in numbers)
    assert code_of(kind("x")) == expected


def test_every_reason_of_the_contract_has_one_error() -> None:
    reasons = [kind.reason for kind in ALL]
    assert len(set(reasons)) == len(reasons)
    names = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert set(reasons) == names - {"UNSPECIFIED"}


def test_the_table_has_no_error_of_another_tree() -> None:
    assert set(CODES) <= set(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_errors_keep_message_and_metadata_between_processes(
    kind: type[errors.IndexerError],
) -> None:
    error = pickle.loads(pickle.dumps(kind("what is wrong", {"field": "x", "limit": "3"})))  # noqa: S301
    assert type(error) is kind
    assert error.message == str(error) == "what is wrong"
    assert error.metadata == {"field": "x", "limit": "3"}


def test_a_status_names_reason_domain_and_field() -> None:
    status = status_of(errors.InvalidLabelsError("too many", {"field": "labels", "limit": "32"}))
    assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "too many")
    info = unpacked(status.details[0], error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID_LABELS", DOMAIN)
    assert dict(info.metadata) == {"field": "labels", "limit": "32"}
    [violation] = unpacked(status.details[1], error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("labels", "too many")


def test_a_status_without_a_field_has_no_violation() -> None:
    assert len(status_of(errors.UnavailableError("later")).details) == 1


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_a_long_message_is_cut_to_fit_into_trailers(letter: str) -> None:
    status = status_of(errors.InvalidFilterError(letter * 5000, {"field": "filter"}))
    assert status.ByteSize() < 4096
    assert status.message.startswith(letter * 200)
    assert "�" not in status.message
