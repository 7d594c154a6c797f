"""What a gallery's enrolment gate refuses; found in `visagedb_indexer.errors` like all others."""

from visagedb_indexer.error_base import FailedPreconditionError, NotFoundError


class EnrolmentRejectedError(FailedPreconditionError):
    """A check of the gallery rejects the face; the metadata has what it found."""

    reason = "ENROLMENT_REJECTED"


class LowQualityError(EnrolmentRejectedError):
    """The face is not good enough to be recognised by."""

    reason = "LOW_QUALITY"


class DuplicateIdentityError(EnrolmentRejectedError):
    """The person is enrolled under another id."""

    reason = "DUPLICATE_IDENTITY"


class IdentityMismatchError(EnrolmentRejectedError):
    """The face does not look like the other faces of its identity."""

    reason = "IDENTITY_MISMATCH"


class QuarantinedFaceNotFoundError(NotFoundError):
    """The gallery's quarantine has no face of this number."""

    reason = "QUARANTINED_FACE_NOT_FOUND"
