"""Resource names: how they are written and read."""

from visagedb_indexer.errors import InvalidNameError
from visagedb_indexer.validation import check_id


def gallery_name(gallery: str) -> str:
    """``galleries/{gallery}``."""
    return f"galleries/{gallery}"


def identity_name(gallery: str, identity: str) -> str:
    """``galleries/{gallery}/identities/{identity}``."""
    return f"galleries/{gallery}/identities/{identity}"


def face_name(gallery: str, identity: str, face: str) -> str:
    """``galleries/{gallery}/identities/{identity}/faces/{face}``; loose without an identity."""
    owner = identity_name(gallery, identity) if identity else gallery_name(gallery)
    return f"{owner}/faces/{face}"


def clustering_name(gallery: str, clustering: str) -> str:
    """``galleries/{gallery}/clusterings/{clustering}``."""
    return f"galleries/{gallery}/clusterings/{clustering}"


def cluster_name(gallery: str, clustering: str, rank: int) -> str:
    """``galleries/{gallery}/clusterings/{clustering}/clusters/{rank}``."""
    return f"{clustering_name(gallery, clustering)}/clusters/{rank}"


def calibration_name(gallery: str, version: int) -> str:
    """``galleries/{gallery}/calibrations/{version}``."""
    return f"galleries/{gallery}/calibrations/{version}"


def lineage_name(gallery: str, number: int) -> str:
    """``galleries/{gallery}/lineage/{number}``."""
    return f"galleries/{gallery}/lineage/{number}"


def audit_name(gallery: str, audit: str) -> str:
    """``galleries/{gallery}/audits/{audit}``."""
    return f"galleries/{gallery}/audits/{audit}"


def quarantine_name(gallery: str, number: int) -> str:
    """``galleries/{gallery}/quarantine/{number}``."""
    return f"galleries/{gallery}/quarantine/{number}"


def api_key_name(key: str) -> str:
    """``apiKeys/{key}``."""
    return f"apiKeys/{key}"


def erasure_name(gallery: str, erasure: str) -> str:
    """``galleries/{gallery}/erasures/{erasure}``."""
    return f"galleries/{gallery}/erasures/{erasure}"


def import_name(gallery: str, import_id: str) -> str:
    """``galleries/{gallery}/imports/{import}``."""
    return f"galleries/{gallery}/imports/{import_id}"


def operation_name(operation: str) -> str:
    """``operations/{operation}``."""
    return f"operations/{operation}"


def parse_gallery(name: str) -> str:
    """The gallery's id.

    Raises:
        InvalidNameError: It is not such a name.
    """
    return _parse(name, "galleries")[0]


def parse_identity(name: str) -> tuple[str, str]:
    """Ids of gallery and identity."""
    gallery, identity = _parse(name, "galleries", "identities")
    return gallery, identity


def parse_owner(name: str) -> tuple[str, str]:
    """Ids of gallery and identity, from the name of either; the latter empty for a gallery."""
    if name.count("/") == 1:
        return parse_gallery(name), ""
    return parse_identity(name)


def parse_face(name: str) -> tuple[str, str, str]:
    """Ids of gallery, identity and face; the identity's is empty for a loose face."""
    if name.count("/") == 3 and "/faces/" in name:
        gallery, face = _parse(name, "galleries", "faces")
        return gallery, "", face
    gallery, identity, face = _parse(name, "galleries", "identities", "faces")
    return gallery, identity, face


def parse_clustering(name: str) -> tuple[str, str]:
    """Ids of gallery and clustering."""
    gallery, clustering = _parse(name, "galleries", "clusterings")
    return gallery, clustering


def parse_cluster(name: str) -> tuple[str, str, int]:
    """Ids of gallery and clustering, and the cluster's rank."""
    gallery, clustering, rank = _parse(name, "galleries", "clusterings", "clusters")
    if not rank.isdecimal() or len(rank) > 9:
        raise InvalidNameError(f"{rank!r} is not the number of a cluster", {"field": "name"})
    return gallery, clustering, int(rank)


def parse_lineage(name: str) -> tuple[str, int]:
    """The gallery's id and the number of the entry."""
    gallery, number = _parse(name, "galleries", "lineage")
    if not number.isdecimal() or len(number) > 18:
        raise InvalidNameError(f"{number!r} is not the number of a change", {"field": "name"})
    return gallery, int(number)


def parse_calibration(name: str) -> tuple[str, int | None]:
    """The gallery's id and the version; None for the latest."""
    gallery, version = _parse(name, "galleries", "calibrations")
    if version == "latest":
        return gallery, None
    if not version.isdecimal() or len(version) > 9:
        raise InvalidNameError(f"{version!r} is no version of a calibration", {"field": "name"})
    return gallery, int(version)


def parse_audit(name: str) -> tuple[str, str]:
    """Ids of gallery and audit."""
    gallery, audit = _parse(name, "galleries", "audits")
    return gallery, audit


def parse_quarantine(name: str) -> tuple[str, int]:
    """The gallery's id and the number of the face in quarantine."""
    gallery, number = _parse(name, "galleries", "quarantine")
    if not number.isdecimal() or len(number) > 18:
        raise InvalidNameError(f"{number!r} is no number of a face", {"field": "name"})
    return gallery, int(number)


def parse_api_key(name: str) -> str:
    """The API key's id."""
    return _parse(name, "apiKeys")[0]


def parse_erasure(name: str) -> tuple[str, str]:
    """Ids of gallery and erasure."""
    gallery, erasure = _parse(name, "galleries", "erasures")
    return gallery, erasure


def parse_import(name: str) -> tuple[str, str]:
    """Ids of gallery and import."""
    gallery, import_id = _parse(name, "galleries", "imports")
    return gallery, import_id


def parse_operation(name: str) -> str:
    """The operation's id."""
    return _parse(name, "operations")[0]


_SINGULAR = {
    "galleries": "gallery",
    "identities": "identity",
    "faces": "face",
    "clusterings": "clustering",
    "clusters": "cluster",
    "lineage": "number",
    "quarantine": "number",
    "calibrations": "calibration",
    "audits": "audit",
    "erasures": "erasure",
    "imports": "import",
    "operations": "operation",
    "apiKeys": "key",
}


def _parse(name: str, *collections: str) -> list[str]:
    parts = name.split("/")
    if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections:
        pattern = "/".join(f"{c}/{{{_SINGULAR[c]}}}" for c in collections)
        raise InvalidNameError(f"{name[:300]!r} is not a name {pattern}", {"field": "name"})
    ids = zip(collections, parts[1::2], strict=True)
    return [check_id(part, _SINGULAR[collection]) for collection, part in ids]
