"""Quotas between the contract and the engine."""

from visagedb.v1 import galleries_pb2
from visagedb_indexer.values import Quotas


def quotas(message: galleries_pb2.GalleryQuotas) -> Quotas:
    """The engine's quotas."""
    return Quotas(message.identities_max, message.faces_max, message.bytes_max)


def message(source: Quotas) -> galleries_pb2.GalleryQuotas | None:
    """The contract's quotas; None where there are none."""
    if source == Quotas():
        return None
    return galleries_pb2.GalleryQuotas(
        identities_max=source.identities_max,
        faces_max=source.faces_max,
        bytes_max=source.bytes_max,
    )
