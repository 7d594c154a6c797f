"""Every limit of the engine in one place, with the relations between them asserted.

Sizes are in bytes, times in seconds, unless the name says otherwise.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Names
ID_LENGTH_MAX: Final = 128
"""Characters in a gallery, identity or face id."""
REQUEST_ID_LENGTH_MAX: Final = 128

# Identities
LABELS_PER_IDENTITY_MAX: Final = 32
LABEL_KEY_LENGTH_MAX: Final = 63
LABEL_VALUE_BYTES_MAX: Final = 255
DISPLAY_NAME_LENGTH_MAX: Final = 255
SOURCE_LENGTH_MAX: Final = 1024
METADATA_BYTES_MAX: Final = 16 * KIB
FACES_PER_IDENTITY_MAX: Final = 10_000

# Vectors
VECTOR_DIMENSION_MIN: Final = 1
VECTOR_DIMENSION_MAX: Final = 2048
VECTOR_NORM_MIN: Final = 1e-6
"""A vector shorter than this has no direction worth keeping."""
VECTOR_UNIT_TOLERANCE: Final = 2.0**-23
"""A vector whose length differs from 1 by less is kept as it is."""

# Images
IMAGE_BYTES_MAX: Final = 20 * MIB
IMAGE_PIXELS_MAX: Final = 100_000_000
IMAGE_SIDE_PIXELS_MAX: Final = 20_000
DETECTION_SIDE_PIXELS_MAX: Final = 1600
"""Larger images are scaled down to this longer side before the detector sees them."""
FACE_SIDE_PIXELS_MIN: Final = 20
FACES_PER_IMAGE_MAX: Final = 512

# Embedding workers
WORKERS_MAX: Final = 256
WORKER_BATCH_IMAGES_MAX: Final = 8
WORKER_QUEUE_IMAGES_MAX: Final = 256
WORKER_QUEUE_BYTES_MAX: Final = 256 * MIB
WORKER_BATCH_SECONDS_MAX: Final = 120.0
"""A worker that holds one batch longer than this is taken for hung and replaced."""
WORKER_START_SECONDS_MAX: Final = 120.0
WORKER_ATTEMPTS_PER_IMAGE_MAX: Final = 2
WORKER_MESSAGE_BYTES_MAX: Final = 64 * MIB
"""Of what a worker may say at once: a batch of images that are full of faces."""
WORKER_MEMORY_BYTES_MIN: Final = 1 * GIB
"""Of a memory limit; the models alone take some hundred megabytes."""
WORKER_MEMORY_BYTES_DEFAULT: Final = 4 * GIB
"""The largest image that is allowed takes two."""

# Store
MAP_BYTES_GALLERY: Final = 128 * GIB
"""Address range of a gallery's database: sparse, so it costs nothing until used."""
MAP_BYTES_RESERVED: Final = GIB
"""The end of a gallery's address range, where faces may be deleted but not enrolled."""
MAP_BYTES_CATALOGUE: Final = 16 * GIB
ADDRESS_SPACE_BYTES: Final = 128 * 1024 * GIB
"""What a 64-bit process can map; all open databases share it."""
READERS_MAX: Final = 2048
"""Threads that read one database at a time."""
REQUEST_THREADS_MAX: Final = 256
COMMIT_COMMANDS_MAX: Final = 4096
COMMIT_WEIGHT_MAX: Final = 16_384
"""Rows of the commands of one commit, unless a single command has more: what waits for the
commit waits no longer than for so many."""
BATCH_ROWS_MAX: Final = 16_384
"""Templates that are enrolled together as columns."""
BATCH_BYTES_MAX: Final = 16 * MIB
BLOCK_BYTES: Final = 64 * KIB
"""Vectors are stored in blocks of about this size: rewritten whole, so not too large;
read one by one, so not too small."""
KEY_BYTES_MAX: Final = 511
"""Set by LMDB."""
REQUEST_ID_SECONDS_KEPT: Final = 24 * 3600.0
GALLERIES_MAX: Final = 900
QUOTA_MAX: Final = 1 << 53
"""Numbers up to this keep their value in every language's JSON."""

# Search
TOP_K_MAX: Final = 1000
TOP_K_DEFAULT: Final = 10
CANDIDATES_PER_RESPONSE_MAX: Final = 10_000
"""Over all faces of a probe, so that an answer fits into a message."""
FILTER_LENGTH_MAX: Final = 4096
FILTER_DEPTH_MAX: Final = 32
EXACT_ROWS_MAX: Final = 10_000
"""Galleries up to this size are scanned exactly; there is too little to train on."""
COMPACT_DIMENSION_MIN: Final = 16
TRAINING_ROWS_MAX: Final = 32_768
FILTERED_EXACT_ROWS_MAX: Final = 16_384
"""A filter that passes no more faces than this is answered from their vectors alone."""
TAIL_ROWS_MAX: Final = 1024
"""Newly enrolled faces are scanned exactly until so many have gathered, or a moment passed."""
SEGMENT_ADD_ROWS_MAX: Final = 1024
"""Rows encoded at a time, beside the searches."""
MATE_LOSS_BOUND_DEFAULT: Final = 0.001
"""Of the mates that exact search ranks first, the compact scan may lose this fraction."""
MATE_LOSS_BOUND_MIN: Final = 0.0001
MATE_LOSS_BOUND_MAX: Final = 0.1
SEARCHES_GATHERED_MAX: Final = 16
"""Searches answered by one scan: beyond this the arithmetic costs as much as the reading."""
STREAMS_MAX: Final = 8
"""Streams of probes served at a time; each holds threads for as long as it lasts."""
STREAM_IN_FLIGHT_MAX: Final = 32
"""Probes of a stream worked on, and answers of it not yet sent; two scans' worth, so that the
next is gathered while one runs."""
STREAM_ENROLLED_ITEMS_MAX: Final = 1024
"""Items of a stream of enrolments under way: single templates wait for commits together."""
STREAM_IN_FLIGHT_BYTES_MAX: Final = 64 * MIB
"""Of the requests of one stream; a larger one is worked on alone."""
STREAM_ITEM_ID_LENGTH_MAX: Final = 128
DIVIDED_SCAN_BYTES_MIN: Final = 96 * MIB
"""A lone search of so many bytes of codes is divided over the cores that have nothing to do;
a shorter one would gain less than it costs the searches that come next."""
TOMBSTONES_MAX: Final = 1000
SEGMENT_ROWS_MAX: Final = 1 << 20
"""Codes are copied by the segment when they change, and divided over cores by the segment."""
AUDIT_FACES_MAX: Final = 500_000
AUDIT_FINDINGS_MAX: Final = 10_000
"""Of each kind."""
AUDITS_KEPT_MAX: Final = 20
FUSED_WIDENING: Final = 3
"""So many times the identities asked for are scored with all of their faces."""
FUSED_CANDIDATES_MIN: Final = 24
FUSED_FACES_MAX: Final = 256
"""Of an identity with more faces the newest count, and the best one."""
PAGE_SIZE_MAX: Final = 1000
PAGE_SIZE_DEFAULT: Final = 100
PAGE_BYTES_MAX: Final = 3 * MIB
"""A page is cut short here: by default gRPC clients take no message over 4 MiB."""

# Lineage
LINEAGE_ENTRIES_MAX: Final = 100_000
"""The oldest entries beyond this are forgotten: their changes can no longer be undone."""

# Erasure
ERASURES_KEPT_MAX: Final = 1_000_000
"""Receipts of a gallery; the oldest complete ones beyond this are forgotten."""

CLOCK_JUMP_SECONDS_MAX: Final = 3600.0
"""A clock that is set further than this while the server runs is not believed unasked."""
CLOCK_STOP_SECONDS_MAX: Final = 30 * 24 * 3600.0
"""The same for the time that a server was stopped."""

# Calibration
CALIBRATIONS_KEPT_MAX: Final = 20
"""Older ones are forgotten: decisions name the version they were taken by."""
SUSPECTED_DUPLICATES_KEPT_MAX: Final = 100

# Integrity
INTEGRITY_FINDINGS_MAX: Final = 100
"""Kept of each invariant; all are counted."""
INTEGRITY_CODES_SAMPLED: Final = 4096
"""Vectors encoded again, to compare with their codes."""

# Quarantine
QUARANTINE_FACES_MAX: Final = 50_000
"""Of one gallery; when it is full, a face that would go there is refused."""

# Operations
OPERATIONS_KEPT_MAX: Final = 1000
"""Finished operations; the oldest beyond this are forgotten."""
OPERATION_SECONDS_KEPT: Final = 30 * 24 * 3600.0
OPERATION_WAITERS_MAX: Final = 8
"""Calls that may wait for an operation; each holds one of the server's threads."""

# Imports and exports
IMPORTS_KEPT_MAX: Final = 20
"""Per gallery; the oldest finished ones beyond this are forgotten."""
IMPORTS_RUNNING_MAX: Final = 4
"""Further ones wait for their turn."""
IMPORT_FAILURES_KEPT_MAX: Final = 100_000
"""Of one import; all are counted, the first are kept."""
IMPORT_FAILURE_TEXT_LENGTH_MAX: Final = 500
IMPORT_ENTRIES_PER_COMMIT: Final = 2048
"""Interactive writes wait for one commit of an import at the most."""
IMPORT_BYTES_PER_COMMIT: Final = 8 * MIB
"""Of vectors."""
IMPORT_COMMIT_SECONDS: Final = 0.5
"""Images that are ready are committed at least so often."""
IMPORT_IMAGES_IN_FLIGHT: Final = 96
"""More than the workers hold, less than bulk work may fill of their queue."""
IMPORT_IMAGE_BYTES_IN_FLIGHT: Final = 96 * MIB
IMPORT_RESUMPTIONS_MAX: Final = 3
"""An import that was begun again so often without any progress ends: it may be what ended the
server."""
IMPORT_RETRY_SECONDS: Final = 1.0
"""Between attempts while the disk is full or the workers are overloaded."""
IMPORT_YIELD_SECONDS_MAX: Final = 1.0
"""Before each commit an import waits so long, at the most, for searches that take all cores."""
IMPORT_COLUMNS_MAX: Final = 16
NAMING_LENGTH_MAX: Final = 256
SIDECAR_BYTES_MAX: Final = 64 * KIB
"""Of a file beside an image in a tar."""
PATH_BYTES_MAX: Final = 4096
EXPORT_ROWS_PER_GROUP: Final = 8192

# Clustering
CLUSTER_EDITS_MAX: Final = 10_000
"""Joins and splits by hand in one clustering."""
CLUSTERINGS_KEPT_MAX: Final = 20
"""Per gallery; the oldest results beyond this are forgotten."""
CLUSTER_FACES_MAX: Final = 10_000_000
"""In one run; the work grows faster than their number."""

# Evaluation
EVALUATED_FACES_MAX: Final = 16_000
"""All pairs are compared and sorted, half a gigabyte of scores; of more faces, whole people
are drawn at random."""
EVALUATED_PAIRS_MAX: Final = 1_000_000
"""Lines of a list of pairs."""

assert IMAGE_SIDE_PIXELS_MAX * 16 > DETECTION_SIDE_PIXELS_MAX
assert FACE_SIDE_PIXELS_MIN < DETECTION_SIDE_PIXELS_MAX
assert WORKER_BATCH_IMAGES_MAX <= WORKER_QUEUE_IMAGES_MAX
assert WORKER_QUEUE_BYTES_MAX >= IMAGE_BYTES_MAX
assert VECTOR_DIMENSION_MIN <= VECTOR_DIMENSION_MAX
assert REQUEST_THREADS_MAX + 2 * STREAMS_MAX * STREAM_IN_FLIGHT_MAX <= READERS_MAX // 2
assert PAGE_SIZE_DEFAULT <= PAGE_SIZE_MAX
assert IMPORT_IMAGES_IN_FLIGHT < WORKER_QUEUE_IMAGES_MAX // 2
assert IMPORT_IMAGE_BYTES_IN_FLIGHT >= IMAGE_BYTES_MAX
assert SIDECAR_BYTES_MAX >= METADATA_BYTES_MAX
assert IMPORT_ENTRIES_PER_COMMIT <= BATCH_ROWS_MAX
assert IMPORT_BYTES_PER_COMMIT + VECTOR_DIMENSION_MAX * 4 <= BATCH_BYTES_MAX
assert BLOCK_BYTES >= VECTOR_DIMENSION_MAX * 4
assert GALLERIES_MAX * MAP_BYTES_GALLERY + MAP_BYTES_CATALOGUE < ADDRESS_SPACE_BYTES
assert LABEL_KEY_LENGTH_MAX + LABEL_VALUE_BYTES_MAX + 6 <= KEY_BYTES_MAX
assert ID_LENGTH_MAX + 4 <= KEY_BYTES_MAX
