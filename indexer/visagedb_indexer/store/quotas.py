"""How large a gallery may become, kept where its size changes: in the single writer.

Counts are exact. Bytes are those of the database's pages in use, and of the vectors of this
commit that are not in pages yet; what else a commit has not written lies across the edge.
"""

from collections.abc import Callable

from visagedb_indexer.errors import QuotaExceededError
from visagedb_indexer.store.records import Counters
from visagedb_indexer.values import Quotas


def check_quotas(
    quotas: Quotas, now: Counters, used_bytes: Callable[[], int], *, identities: int, faces: int
) -> None:
    """Refuses growth beyond the quotas; what shrinks or stays is never refused.

    Args:
        quotas: Of the gallery.
        now: Where the gallery stands.
        used_bytes: Bytes in use; asked only if there is a quota for them.
        identities: How many there would be more.
        faces: Likewise.

    Raises:
        QuotaExceededError: There would be more than allowed.
    """
    if identities > 0:
        _check("identities", quotas.identities_max, now.identity_count, identities)
    if faces > 0:
        _check("faces", quotas.faces_max, now.face_count, faces)
    if quotas.bytes_max and (identities > 0 or faces > 0):
        _check("bytes", quotas.bytes_max, used_bytes(), 1)


def _check(what: str, most: int, used: int, more: int) -> None:
    if most and used + more > most:
        raise QuotaExceededError(
            f"the gallery may have {most} {what}, and has {used}; "
            "delete some, or have the quota raised",
            {"quota": what, "limit": str(most), "used": str(used)},
        )
