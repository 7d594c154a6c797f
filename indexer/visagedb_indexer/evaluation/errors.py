"""What evaluation refuses; these stay on the command line and never go over the wire."""

from visagedb_indexer.errors import FailedPreconditionError, InvalidArgumentError


class TooFewPeopleError(FailedPreconditionError):
    """Error rates need at least two people, and a person with two faces."""

    reason = "TOO_FEW_PEOPLE"


class InvalidPairListError(InvalidArgumentError):
    """A list of pairs cannot be read, or has pairs of one kind only."""

    reason = "INVALID_PAIR_LIST"


class NothingToEvaluateError(FailedPreconditionError):
    """There is no image, or no face was found in any of them."""

    reason = "NOTHING_TO_EVALUATE"
