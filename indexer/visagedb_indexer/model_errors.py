"""The errors about model cards and weights; found in `visagedb_indexer.errors` like all others."""

from visagedb_indexer.error_base import IndexerError


class ModelError(IndexerError):
    """A model card or its weights are refused."""

    reason = "INVALID_MODEL"


class InvalidModelCardError(ModelError):
    """The card is not valid TOML, or a field is missing or wrong."""

    reason = "INVALID_MODEL_CARD"


class ModelFileMissingError(ModelError):
    """The weights are not where the card says."""

    reason = "MODEL_FILE_MISSING"


class ModelDigestError(ModelError):
    """The weights are not the ones the card was written for."""

    reason = "MODEL_DIGEST_MISMATCH"


class UnsupportedOperatorError(ModelError):
    """The network uses an operator, or a form of one, that the importer does not know."""

    reason = "UNSUPPORTED_OPERATOR"


class ModelShapeError(ModelError):
    """The network's inputs or outputs do not have the card's shapes."""

    reason = "MODEL_SHAPE_MISMATCH"
