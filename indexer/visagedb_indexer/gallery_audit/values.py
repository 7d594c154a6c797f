"""What an audit finds."""

from dataclasses import dataclass

from visagedb_indexer.values import FindingKind


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should look at.

    Attributes:
        kind: What it may be. The other attributes depend on it:
        face: Row of the face it is about; of two identities one of the most similar faces.
        other: Row of the most similar face under another identity; -1 when none is near.
        evidence: The larger, the likelier. Natural logarithm of a likelihood ratio; of a hub,
            of how many times more identities it matches than faces do on average.
        probability: 0 to 1, if one label in a hundred is wrong; 0 for hubs.
        score: Cosine of the two faces; 0 without the other.
        template_score: Cosine of two means: of the two identities; of a face's own
            identity's other faces and the face. 0 for a hub.
        support: Pairs of faces of the two identities that are near; of a face's own
            identity the other faces that are not near it; identities that a hub is near to.
        compared: Out of how many.
    """

    kind: FindingKind
    face: int
    other: int
    evidence: float
    probability: float
    score: float
    template_score: float
    support: int
    compared: int
