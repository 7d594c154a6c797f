"""Every limit of the server in one place, beside those of the engine, with their relations.

Sizes are in bytes, times in seconds, unless the name says otherwise.
"""

from typing import Final

from visagedb_indexer import limits

# Messages
MESSAGE_BYTES_MAX: Final = 2 * limits.IMAGE_BYTES_MAX + 4 * limits.MIB
"""Room for two of the largest images, as a comparison has, so that our limit answers first."""

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
PENDING_CALLS_MAX: Final = 8 * CALLS_MAX
"""That nobody has looked at yet: so many that a burst is refused with a reason, not dropped."""

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

# Access
API_KEYS_MAX: Final = 10_000
"""Also those that are revoked or expired: what they did is in the audit log."""
API_KEY_GALLERIES_MAX: Final = 900
WRONG_KEYS_BURST: Final = 10
"""Wrong keys from one host that are answered one by one; then they are damped."""
WRONG_KEY_SECONDS: Final = 6.0
"""After so long a host may send one wrong key more."""
WRONG_KEY_HOSTS_MAX: Final = 4096
"""Hosts that are remembered; the one that was quiet for longest is forgotten."""
AUDIT_LOG_FILE_BYTES_MAX: Final = 16 * limits.MIB
AUDIT_LOG_FILES_MAX: Final = 256
"""The oldest beyond this are removed, which the log says."""
AUDIT_LOG_QUEUE_MAX: Final = 10_000
"""Entries not yet written; when there are more, nothing that needs one is done."""
AUDIT_LOG_SCAN_ENTRIES_MAX: Final = 200_000
"""Looked through for one page; it then ends, maybe without having found any."""
AUDIT_LOG_STREAM_ITEMS: Final = 1000
"""Items of a stream of enrolments that one entry stands for."""

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
assert API_KEY_GALLERIES_MAX <= limits.GALLERIES_MAX
