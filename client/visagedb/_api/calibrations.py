"""Methods about the calibrations of a gallery."""

from visagedb import _convert as convert
from visagedb import _convert_calibration as convert_calibration
from visagedb._calibration import Calibration
from visagedb._call import Call, Started, call
from visagedb._inputs import new_request_id
from visagedb._names import gallery_name
from visagedb.v1 import galleries_pb2 as pb


def calibrate(
    gallery: str, *, cohort_label: str = "", timeout: float | None = None
) -> Started[Calibration]:
    """Starts to measure what strangers score, so that decisions can be asked for by error rate.

    A gallery of some hundred people is calibrated without being asked, and again as it grows;
    this does it now.

    Args:
        gallery: Id of the gallery.
        cohort_label: Also compare the people by the values of this label, for example
            ``site``: whether one threshold gives all of them the same false match rate.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Calibration`.

    Raises:
        NotCalibratedError: By the result: the gallery has too few people.
    """
    request = pb.CalibrateGalleryRequest(
        name=gallery_name(gallery), label_key=cohort_label, request_id=new_request_id()
    )
    return Started(
        call(
            "GalleryService/CalibrateGallery",
            request,
            pb.CalibrateGalleryResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def get_calibration(
    gallery: str, version: int | None = None, *, timeout: float | None = None
) -> Call[Calibration]:
    """A calibration of a gallery.

    Args:
        gallery: Id of the gallery.
        version: Which; None for the latest.
        timeout: Seconds; None means the client's default.

    Raises:
        CalibrationNotFoundError: There is none, or it is forgotten.
    """
    name = f"{gallery_name(gallery)}/calibrations/{'latest' if version is None else version}"
    return call(
        "GalleryService/GetCalibration",
        pb.GetCalibrationRequest(name=name),
        pb.GetCalibrationResponse,
        lambda answer: convert_calibration.calibration(answer.calibration),
        timeout,
    )
