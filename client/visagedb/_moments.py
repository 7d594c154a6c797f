"""Moments of the wire."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def moment(message: Timestamp) -> datetime | None:
    """A moment in UTC; None when it was never set."""
    if not message.seconds and not message.nanos:
        return None
    return message.ToDatetime(tzinfo=UTC)
