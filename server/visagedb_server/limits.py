"""Every limit of the server in one place, beside those of the engine, with their relations.

Sizes are in bytes, times in seconds, unless the name says otherwise.
"""

from typing import Final

from visagedb_indexer import limits

# Messages
MESSAGE_BYTES_MAX: Final = 2 * limits.IMAGE_BYTES_MAX + 4 * limits.MIB
"""Room for two of the largest images, as a comparison has, so that our limit answers first."""
REQUEST_SECONDS_MAX: Final = 60.0
"""A call whose request has not arrived by then is ended: it holds a thread."""

# Threads: calls of one kind never hold those of another.
CONTROL_THREADS: Final = 8
"""For health, operations and other calls that are answered from memory."""
CONTROL_WAITING_MAX: Final = 1024
REFLECTION_THREADS: Final = 4
REFLECTION_WAITING_MAX: Final = 16
STREAM_THREADS: Final = 2 * limits.STREAMS_MAX + 2
"""For each method with streams as many as are served, and some to refuse the others."""
STREAM_WAITING_MAX: Final = 64
WAITER_THREADS: Final = 4 * limits.OPERATION_WAITERS_MAX
"""For calls that wait for an operation: they do nothing but wait."""
WAITER_WAITING_MAX: Final = 64
CALLS_MAX: Final = 8192
"""Of all kinds together; gRPC turns the rest away by itself, without a reason of ours."""

# Overload
QUEUE_SECONDS_TARGET: Final = 0.1
"""How long a call may wait for a thread when the queue does not empty."""
QUEUE_SECONDS_INTERVAL: Final = 0.5
"""How long a queue may take to empty before it counts as standing."""
IMAGE_SHARE_MAX: Final = 0.75
"""Of the threads that may wait for images to be read at a time; searches need the others."""
IMAGE_WAIT_SECONDS_MAX: Final = 2.0
"""An image that would wait longer for a worker is refused at once."""
BULK_IMAGE_WAIT_SECONDS_MAX: Final = 30.0
"""The same for images that may wait for others."""
RETRY_SECONDS_MIN: Final = 0.1
RETRY_SECONDS_MAX: Final = 30.0
CALLERS_COUNTED_MAX: Final = 10_000
"""Callers whose rate is known; the one that was quiet longest is forgotten first."""
RATE_BURST_SECONDS: Final = 1.0
"""A caller may use up so much of its rate at once."""

# Connections
KEEPALIVE_SECONDS: Final = 120.0
"""A connection that has been silent so long is asked whether it still lives."""
KEEPALIVE_TIMEOUT_SECONDS: Final = 20.0
PING_SECONDS_MIN: Final = 60.0
"""A client that asks more often than this is sent away; ours asks every 330 seconds."""

# Observability
GALLERIES_LABELLED_MAX: Final = 50
"""Galleries with metrics of their own, the largest first; the rest are added up."""
METRICS_PORT_OFFSET: Final = 1000
"""The metrics are served on the port of the service plus this, unless the settings say."""
METRICS_REQUESTS_MAX: Final = 16
METRICS_REQUEST_SECONDS_MAX: Final = 10.0
HEALTH_SECONDS: Final = 1.0
"""How often liveness and readiness are looked at."""

assert QUEUE_SECONDS_TARGET < QUEUE_SECONDS_INTERVAL
assert IMAGE_WAIT_SECONDS_MAX < BULK_IMAGE_WAIT_SECONDS_MAX <= RETRY_SECONDS_MAX
assert PING_SECONDS_MIN <= KEEPALIVE_SECONDS
assert limits.OPERATION_WAITERS_MAX < WAITER_THREADS
assert (
    limits.REQUEST_THREADS_MAX
    + CONTROL_THREADS
    + STREAM_THREADS
    + WAITER_THREADS
    + 2 * limits.STREAMS_MAX * limits.STREAM_IN_FLIGHT_MAX
    < limits.READERS_MAX
), "every thread that may read needs a slot"
