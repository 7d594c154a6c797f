"""What an audit of a gallery's labels says."""

from dataclasses import dataclass
from datetime import datetime

from visagedb._names import last_id, segment
from visagedb._values import FindingKind


@dataclass(frozen=True, slots=True)
class GalleryAudit:
    """The result of one audit.

    Attributes:
        name: ``galleries/{gallery}/audits/{audit}``.
        face_count: Faces compared.
        identity_count: Their identities.
        duplicate_count: Pairs of identities that may be one person.
        mislabelled_count: Faces that may be enrolled as somebody else.
        hub_count: Faces that match too many identities.
        near_score: The cosine from which on two faces counted as near.
        gallery_generation: The gallery's content at that time.
    """

    name: str
    create_time: datetime | None
    face_count: int
    identity_count: int
    duplicate_count: int
    mislabelled_count: int
    hub_count: int
    near_score: float
    gallery_generation: int

    @property
    def id(self) -> str:
        """The plain id of the audit."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class GalleryFinding:
    """Something in a gallery that a person should look at.

    Attributes:
        kind: Two identities that may be one person, a face that may be enrolled as somebody
            else, or a face that matches too many.
        rank: Counted from 1 within the audit.
        evidence: Natural logarithm of a likelihood ratio: the larger, the likelier. Of a hub,
            of how many times more identities it is near to than faces are on average.
        probability: That it is true, if one label in a hundred is wrong; 0 for a hub.
        face: Resource name of the face it is about; of two identities one of the most similar.
        other_face: The most similar face under another identity; empty when there is none.
        score: Cosine of the two faces.
        template_score: Cosine of the means of two identities; of a mislabelled face to the
            mean of its identity's other faces; 0 for a hub.
        supporting_count: Near pairs of faces of two identities; other faces of its identity
            that a mislabelled face is not near to; identities that a hub is near to.
        compared_count: Out of how many.
        source: The caller's own reference of the face.
        other_source: That of the other.
    """

    kind: FindingKind
    rank: int
    evidence: float
    probability: float
    face: str
    other_face: str
    score: float
    template_score: float
    supporting_count: int
    compared_count: int
    source: str
    other_source: str

    @property
    def identity(self) -> str:
        """Id of the face's identity."""
        return segment(self.face, "identities")

    @property
    def other_identity(self) -> str:
        """Id of the other face's identity; empty without one."""
        return segment(self.other_face, "identities")
