"""Everything that can go wrong inside the indexer, as one tree.

    IndexerError
    ├── InvalidArgumentError        the caller sent something that can never be right
    │   ├── InvalidNameError
    │   ├── InvalidVectorError
    │   ├── InvalidLabelsError
    │   ├── InvalidFilterError
    │   ├── InvalidPageTokenError
    │   ├── InvalidSourceError
    │   └── ImageError              the image cannot be used
    │       ├── EmptyImageError
    │       ├── UnsupportedImageError
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
    ├── EtagMismatchError           somebody else changed the resource first
    ├── FailedPreconditionError     right in itself, but not in this state
    │   ├── ModelMismatchError
    │   ├── ModelNotAvailableError
    │   ├── GalleryTooLargeError
    │   ├── GalleryClosedError
    │   ├── PathNotAllowedError
    │   ├── NotCalibratedError
    │   ├── NotUndoableError
    │   ├── EnrolmentRejectedError  a check of the gallery rejects the face
    │   │   ├── LowQualityError
    │   │   ├── DuplicateIdentityError
    │   │   └── IdentityMismatchError
    │   ├── DataDirectoryLockedError
    │   └── FormatTooNewError
    ├── ModelError                  a model card or its weights are refused
    │   ├── InvalidModelCardError
    │   ├── ModelFileMissingError
    │   ├── ModelDigestError
    │   ├── UnsupportedOperatorError
    │   └── ModelShapeError
    ├── ExhaustedError              a limit is reached; later or smaller may work
    │   ├── OverloadedError
    │   ├── LimitExceededError
    │   ├── QuotaExceededError
    │   └── StorageFullError
    ├── UnavailableError            try again
    │   └── WorkersUnavailableError
    ├── DeadlineExceededError
    ├── CancelledError
    ├── StorageCorruptError         stored bytes are not what was written
    └── NotSupportedError           part of the contract that this release does not have

The `reason` of a class goes over the wire. A message says what is wrong and what to do about it.
"""

from visagedb_indexer.error_base import OUT_OF_MEMORY as OUT_OF_MEMORY
from visagedb_indexer.error_base import FailedPreconditionError as FailedPreconditionError
from visagedb_indexer.error_base import IndexerError as IndexerError
from visagedb_indexer.error_base import NotFoundError as NotFoundError
from visagedb_indexer.gate_errors import DuplicateIdentityError as DuplicateIdentityError
from visagedb_indexer.gate_errors import EnrolmentRejectedError as EnrolmentRejectedError
from visagedb_indexer.gate_errors import IdentityMismatchError as IdentityMismatchError
from visagedb_indexer.gate_errors import LowQualityError as LowQualityError
from visagedb_indexer.gate_errors import (
    QuarantinedFaceNotFoundError as QuarantinedFaceNotFoundError,
)
from visagedb_indexer.model_errors import InvalidModelCardError as InvalidModelCardError
from visagedb_indexer.model_errors import ModelDigestError as ModelDigestError
from visagedb_indexer.model_errors import ModelError as ModelError
from visagedb_indexer.model_errors import ModelFileMissingError as ModelFileMissingError
from visagedb_indexer.model_errors import ModelShapeError as ModelShapeError
from visagedb_indexer.model_errors import UnsupportedOperatorError as UnsupportedOperatorError


class InvalidArgumentError(IndexerError):
    """The caller sent something that can never be right."""

    reason = "INVALID_ARGUMENT"


class InvalidNameError(InvalidArgumentError):
    """An id or resource name has forbidden characters or the wrong length."""

    reason = "INVALID_NAME"


class InvalidVectorError(InvalidArgumentError):
    """A vector has the wrong length, holds NaN or infinity, or is zero."""

    reason = "INVALID_VECTOR"


class InvalidLabelsError(InvalidArgumentError):
    """Labels or metadata break a limit or are malformed."""

    reason = "INVALID_LABELS"


class InvalidFilterError(InvalidArgumentError):
    """A filter expression cannot be read."""

    reason = "INVALID_FILTER"


class InvalidPageTokenError(InvalidArgumentError):
    """A page token was not issued by this server for this listing."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidSourceError(InvalidArgumentError):
    """A file to import is damaged, cut short, or not of the form that it has to have."""

    reason = "INVALID_SOURCE"


class ImageError(InvalidArgumentError):
    """The image cannot be used."""

    reason = "INVALID_IMAGE"


class EmptyImageError(ImageError):
    """There are no bytes."""

    reason = "EMPTY_IMAGE"


class UnsupportedImageError(ImageError):
    """The bytes are not an image in a supported format."""

    reason = "UNSUPPORTED_IMAGE_FORMAT"


class CorruptImageError(ImageError):
    """The format is known, but the bytes are damaged or cut short."""

    reason = "CORRUPT_IMAGE"


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow; checked before decoding."""

    reason = "IMAGE_TOO_LARGE"


class NoFaceError(ImageError):
    """No face was found where one is needed."""

    reason = "NO_FACE"


class SeveralFacesError(ImageError):
    """More than one face was found where exactly one is expected."""

    reason = "SEVERAL_FACES"


class ImageCrashedWorkerError(ImageError):
    """The image ended its embedding process, twice, or held it beyond the time limit."""

    reason = "IMAGE_CRASHED_WORKER"


class GalleryNotFoundError(NotFoundError):
    """There is no gallery of this name."""

    reason = "GALLERY_NOT_FOUND"


class IdentityNotFoundError(NotFoundError):
    """The gallery has no identity of this id."""

    reason = "IDENTITY_NOT_FOUND"


class FaceNotFoundError(NotFoundError):
    """The identity has no face of this id."""

    reason = "FACE_NOT_FOUND"


class OperationNotFoundError(NotFoundError):
    """There is no long-running operation of this name."""

    reason = "OPERATION_NOT_FOUND"


class ImportNotFoundError(NotFoundError):
    """The gallery has no import of this id; old ones are forgotten."""

    reason = "IMPORT_NOT_FOUND"


class ClusteringNotFoundError(NotFoundError):
    """The gallery has no clustering, or the clustering no cluster, of this id."""

    reason = "CLUSTERING_NOT_FOUND"


class LineageNotFoundError(NotFoundError):
    """No lineage entry of this number."""

    reason = "LINEAGE_NOT_FOUND"


class CalibrationNotFoundError(NotFoundError):
    """The gallery has no calibration of this version; old ones are forgotten."""

    reason = "CALIBRATION_NOT_FOUND"


class AlreadyExistsError(IndexerError):
    """Something of this name exists already."""

    reason = "ALREADY_EXISTS"


class GalleryExistsError(AlreadyExistsError):
    """There is a gallery of this name already."""

    reason = "GALLERY_EXISTS"


class IdentityExistsError(AlreadyExistsError):
    """There is an identity of this id already."""

    reason = "IDENTITY_EXISTS"


class FaceExistsError(AlreadyExistsError):
    """There is a face of this id already, made from something else."""

    reason = "FACE_EXISTS"


class RequestIdReusedError(AlreadyExistsError):
    """The request id was used before for a different request."""

    reason = "REQUEST_ID_REUSED"


class BackupNotFoundError(NotFoundError):
    """There is no backup of this name in the folder of backups."""

    reason = "BACKUP_NOT_FOUND"


class BackupExistsError(AlreadyExistsError):
    """There is a backup of this name already."""

    reason = "BACKUP_EXISTS"


class EtagMismatchError(IndexerError):
    """The resource changed since the caller read it."""

    reason = "ETAG_MISMATCH"


class ModelMismatchError(FailedPreconditionError):
    """A vector was made by another model than the gallery's."""

    reason = "MODEL_MISMATCH"


class ModelNotAvailableError(FailedPreconditionError):
    """This server cannot run the model: not installed, unknown, or refused."""

    reason = "MODEL_NOT_AVAILABLE"


class GalleryTooLargeError(FailedPreconditionError):
    """The gallery has more faces than this operation supports."""

    reason = "GALLERY_TOO_LARGE"


class GalleryClosedError(FailedPreconditionError):
    """The gallery is being deleted or the server is stopping."""

    reason = "GALLERY_CLOSED"


class PathNotAllowedError(FailedPreconditionError):
    """A file or folder that the operator has not opened for imports or exports."""

    reason = "PATH_NOT_ALLOWED"


class NotCalibratedError(FailedPreconditionError):
    """An error rate was asked for, but the gallery has not been calibrated."""

    reason = "NOT_CALIBRATED"


class NotUndoableError(FailedPreconditionError):
    """A change that can no longer be undone."""

    reason = "NOT_UNDOABLE"


class DataDirectoryLockedError(FailedPreconditionError):
    """Another process owns the data directory."""

    reason = "DATA_DIRECTORY_LOCKED"


class FormatTooNewError(FailedPreconditionError):
    """The data was written by a newer version of VisageDB."""

    reason = "FORMAT_TOO_NEW"


class ExhaustedError(IndexerError):
    """A limit is reached; later or smaller may work."""

    reason = "RESOURCE_EXHAUSTED"


class OverloadedError(ExhaustedError):
    """Too much work is waiting already."""

    reason = "OVERLOADED"


class LimitExceededError(ExhaustedError):
    """A fixed limit of this release would be passed."""

    reason = "LIMIT_EXCEEDED"


class QuotaExceededError(ExhaustedError):
    """The gallery may not become any larger."""

    reason = "QUOTA_EXCEEDED"


class StorageFullError(ExhaustedError):
    """The disk or the database's address range is full; nothing was changed."""

    reason = "STORAGE_FULL"


class UnavailableError(IndexerError):
    """A passing condition; try again."""

    reason = "UNAVAILABLE"


class WorkersUnavailableError(UnavailableError):
    """The embedding processes are stopped or cannot be started."""

    reason = "WORKERS_UNAVAILABLE"


class DeadlineExceededError(IndexerError):
    """The caller's deadline passed before the work was done."""

    reason = "DEADLINE_EXCEEDED"


class CancelledError(IndexerError):
    """The caller gave up, or an operation was cancelled."""

    reason = "CANCELLED"


class StorageCorruptError(IndexerError):
    """Stored bytes are not what was written."""

    reason = "STORAGE_CORRUPT"


class NotSupportedError(IndexerError):
    """Part of the contract that this release does not have."""

    reason = "NOT_IMPLEMENTED"
