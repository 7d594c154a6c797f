"""Everything the client raises on purpose, as one tree.

    VisageError
    ├── InvalidArgumentError            the request can never be right
    │   ├── InvalidNameError
    │   ├── InvalidVectorError
    │   ├── InvalidLabelsError
    │   ├── InvalidPageTokenError
    │   ├── InvalidFilterError
    │   ├── InvalidSourceError
    │   └── InvalidImageError           the image cannot be used
    │       ├── EmptyImageError
    │       ├── UnsupportedImageFormatError
    │       ├── CorruptImageError
    │       ├── ImageTooLargeError
    │       ├── NoFaceError
    │       ├── SeveralFacesError
    │       └── ImageCrashedWorkerError
    ├── NotFoundError
    │   ├── GalleryNotFoundError
    │   ├── IdentityNotFoundError
    │   ├── FaceNotFoundError
    │   ├── OperationNotFoundError
    │   ├── ImportNotFoundError
    │   ├── ClusteringNotFoundError
    │   ├── LineageNotFoundError
    │   ├── CalibrationNotFoundError
    │   ├── QuarantinedFaceNotFoundError
    │   └── BackupNotFoundError
    ├── AlreadyExistsError
    │   ├── GalleryExistsError
    │   ├── IdentityExistsError
    │   ├── FaceExistsError
    │   ├── RequestIdReusedError
    │   └── BackupExistsError
    ├── EtagMismatchError               somebody else changed the resource first
    ├── FailedPreconditionError         right in itself, but not in this state
    │   ├── ModelMismatchError
    │   ├── ModelNotAvailableError
    │   ├── GalleryTooLargeError
    │   ├── GalleryClosedError
    │   ├── PathNotAllowedError
    │   ├── DataDirectoryLockedError
    │   ├── FormatTooNewError
    │   ├── NotCalibratedError
    │   ├── NotUndoableError
    │   ├── EnrolmentRejectedError      a check of the gallery rejects the face
    │   │   ├── LowQualityError
    │   │   ├── DuplicateIdentityError
    │   │   └── IdentityMismatchError
    │   └── InvalidModelError           a model card or its weights are refused
    ├── PermissionDeniedError
    ├── UnauthenticatedError
    ├── ResourceExhaustedError          a limit is reached; later or smaller may work
    │   ├── OverloadedError
    │   ├── LimitExceededError
    │   ├── QuotaExceededError
    │   └── StorageFullError
    ├── UnavailableError                try again
    │   ├── WorkersUnavailableError
    │   └── ServerUnreachableError      nobody answers at the address
    ├── DeadlineExceededError           also a TimeoutError
    ├── RequestCancelledError
    ├── StorageCorruptError
    ├── NotImplementedByServerError
    └── InternalError

The class follows from `reason`, the stable word on the wire (`visagedb.v1.ErrorReason`
without its prefix). A reason that this version of the client does not know becomes the
class of its status code, so a newer server never breaks an older `except`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is wrong.

    Attributes:
        field: Path of the field, for example ``operating_point.threshold``.
        description: What is wrong with it.
    """

    field: str
    description: str


class VisageError(Exception):
    """Base of all errors of the client.

    Args:
        message: What is wrong, and what to do about it where that is known.
        code: Name of the gRPC status code, for example ``NOT_FOUND``.
        reason: The stable word for programs, for example ``GALLERY_NOT_FOUND``.
        metadata: Machine-readable details, short strings.
        field_violations: The fields at fault, where the server names them.
        retry_after: Seconds after which another attempt may succeed, where the server says so.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after

    def to_dict(self) -> dict[str, Any]:
        """The error as plain values, ready for JSON."""
        return {
            "type": type(self).__name__,
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            "metadata": self.metadata,
            "field_violations": [
                {"field": v.field, "description": v.description} for v in self.field_violations
            ],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes; the default would lose the keyword arguments."""
        return (type(self), (self.message,), self.__dict__)


class InvalidArgumentError(VisageError):
    """The request can never be right."""


class InvalidNameError(InvalidArgumentError):
    """An id or resource name has forbidden characters or the wrong length."""


class InvalidVectorError(InvalidArgumentError):
    """A vector has the wrong shape or length, holds NaN or infinity, or is zero."""


class InvalidLabelsError(InvalidArgumentError):
    """Labels or metadata break a limit or are malformed."""


class InvalidPageTokenError(InvalidArgumentError):
    """A page token was not issued by this server for this listing."""


class InvalidFilterError(InvalidArgumentError):
    """A filter expression cannot be understood."""


class InvalidSourceError(InvalidArgumentError):
    """A file to import is damaged, cut short, or not of the form that it has to have."""


class InvalidImageError(InvalidArgumentError):
    """The image cannot be used."""


class EmptyImageError(InvalidImageError):
    """There are no bytes."""


class UnsupportedImageFormatError(InvalidImageError):
    """The bytes are not an image in a supported format."""


class CorruptImageError(InvalidImageError):
    """The format is known, but the bytes are damaged or cut short."""


class ImageTooLargeError(InvalidImageError):
    """More bytes or pixels than the server's limits allow."""


class NoFaceError(InvalidImageError):
    """No face was found where one is needed."""


class SeveralFacesError(InvalidImageError):
    """More than one face was found where exactly one is expected; see `FaceSelection`."""


class ImageCrashedWorkerError(InvalidImageError):
    """The image ended the server's embedding process, twice."""


class NotFoundError(VisageError):
    """Something that was named does not exist."""


class GalleryNotFoundError(NotFoundError):
    """There is no gallery of this id."""


class IdentityNotFoundError(NotFoundError):
    """The gallery has no identity of this id."""


class FaceNotFoundError(NotFoundError):
    """The identity has no face of this id."""


class OperationNotFoundError(NotFoundError):
    """There is no operation of this name, or it is forgotten."""


class ImportNotFoundError(NotFoundError):
    """The gallery has no import of this name; old ones are forgotten."""


class ClusteringNotFoundError(NotFoundError):
    """There is no clustering of this name."""


class LineageNotFoundError(NotFoundError):
    """There is no change of this name in the lineage."""


class CalibrationNotFoundError(NotFoundError):
    """The gallery has no calibration of this version; old ones are forgotten."""


class QuarantinedFaceNotFoundError(NotFoundError):
    """The gallery's quarantine has no such face; it may have been accepted or dropped."""


class AlreadyExistsError(VisageError):
    """Something of this name exists already."""


class GalleryExistsError(AlreadyExistsError):
    """There is a gallery of this id already."""


class IdentityExistsError(AlreadyExistsError):
    """There is an identity of this id already."""


class FaceExistsError(AlreadyExistsError):
    """There is a face of this id already, made from something else."""


class RequestIdReusedError(AlreadyExistsError):
    """The request id was used before for a different request."""


class BackupNotFoundError(NotFoundError):
    """There is no backup of this name on the server."""


class BackupExistsError(AlreadyExistsError):
    """There is a backup of this name already."""


class EtagMismatchError(VisageError):
    """The resource changed since it was read; read it again."""


class FailedPreconditionError(VisageError):
    """The request is right in itself, but not in the present state."""


class ModelMismatchError(FailedPreconditionError):
    """A vector was made by another model than the gallery's."""


class ModelNotAvailableError(FailedPreconditionError):
    """The server cannot run the model, so it takes vectors only."""


class GalleryTooLargeError(FailedPreconditionError):
    """The gallery has more faces than this operation supports."""


class GalleryClosedError(FailedPreconditionError):
    """The gallery is being deleted or the server is stopping."""


class DataDirectoryLockedError(FailedPreconditionError):
    """Another process owns the data directory."""


class FormatTooNewError(FailedPreconditionError):
    """The data was written by a newer version of VisageDB."""


class PathNotAllowedError(FailedPreconditionError):
    """A file or folder that the server's operator has not opened for imports or exports."""


class NotCalibratedError(FailedPreconditionError):
    """An error rate was asked for, but the gallery has no calibration yet."""


class NotUndoableError(FailedPreconditionError):
    """A change that was undone already, or that needs what is gone."""


class EnrolmentRejectedError(FailedPreconditionError):
    """A check of the gallery rejects the face.

    The metadata has ``score`` and ``threshold``, and where it applies ``identity`` and ``face``
    of the other person and ``quality_reasons``.
    """


class LowQualityError(EnrolmentRejectedError):
    """The face is not good enough to be recognised by."""


class DuplicateIdentityError(EnrolmentRejectedError):
    """The person is enrolled under another id."""


class IdentityMismatchError(EnrolmentRejectedError):
    """The face does not look like the other faces of its identity."""


class InvalidModelError(FailedPreconditionError):
    """A model card or its weights are refused; `reason` says in what way."""


class PermissionDeniedError(VisageError):
    """The caller may not do this."""


class UnauthenticatedError(VisageError):
    """The server does not know the caller."""


class ResourceExhaustedError(VisageError):
    """A limit is reached; later or smaller may work."""


class OverloadedError(ResourceExhaustedError):
    """Too much work is waiting already; try again later."""


class LimitExceededError(ResourceExhaustedError):
    """A fixed limit of the server would be passed."""


class QuotaExceededError(ResourceExhaustedError):
    """The gallery may not become any larger; `metadata` says which quota, and how full."""


class StorageFullError(ResourceExhaustedError):
    """The server's disk is full; nothing was changed."""


class UnavailableError(VisageError):
    """A passing condition; try again."""


class WorkersUnavailableError(UnavailableError):
    """The server's embedding processes are stopped or cannot be started."""


class ServerUnreachableError(UnavailableError):
    """Nobody answers at the address."""


class DeadlineExceededError(VisageError, TimeoutError):
    """The time given to a call or to an operation ran out."""


class RequestCancelledError(VisageError):
    """The call or the operation was cancelled."""


class StorageCorruptError(VisageError):
    """The server found stored bytes that are not what was written."""


class NotImplementedByServerError(VisageError):
    """This server does not implement the method."""


class InternalError(VisageError):
    """The server failed in a way it did not expect."""
