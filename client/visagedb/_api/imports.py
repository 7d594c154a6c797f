"""Methods about imports and exports."""

import os
from collections.abc import Mapping

from visagedb import _convert as convert
from visagedb import _convert_imports as convert_imports
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._imports import Export, Import, ImportFailure, ImportMode, SourceFormat
from visagedb._inputs import new_request_id, resource, selection_value
from visagedb._names import gallery_name
from visagedb._values import FaceSelection
from visagedb.v1 import imports_pb2 as pb


def import_faces(
    gallery: str,
    path: str | os.PathLike[str],
    *,
    format: SourceFormat | str | None = None,  # noqa: A002 (the API's own word)
    mode: ImportMode | str = ImportMode.INSERT,
    naming: str = "",
    face_selection: FaceSelection | str | None = None,
    loose: bool = False,
    labels: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    model: str = "",
    timeout: float | None = None,
) -> Started[Import]:
    """Starts to enrol what is in a file or folder of the server's machine.

    The import goes on, where it was, after a restart of the server. What is wrong with one
    entry is a failure of that entry: see `import_failures`.

    Args:
        gallery: Id of the gallery.
        path: Absolute path on the server, below a folder that it opens with ``--import-root``.
        format: What it is; None goes by the path.
        mode: What is done with what is there already.
        naming: How the path of an image names its identity, for example ``{identity}_*.jpg``;
            empty for a sub-folder for each.
        face_selection: Which face of an image; by default it must show exactly one.
        loose: Enrol every face without an identity.
        labels: Of identities that the import creates.
        columns: Names of columns by what they are for, where the source has others, for
            example ``{"identity_id": "person"}``.
        model: What made the vectors: ``name`` or ``name@version``.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is an `Import`.

    Raises:
        PathNotAllowedError: The server does not open that path.
        InvalidSourceError: There is nothing of such a form.
        ModelMismatchError: Another model made the vectors.
    """
    request = pb.ImportFacesRequest(
        gallery=gallery_name(gallery),
        path=os.fspath(path),
        format=convert_imports.FORMAT_NUMBERS[None if format is None else SourceFormat(format)],
        mode=convert_imports.MODE_NUMBERS[ImportMode(mode)],
        naming=naming,
        face_selection=selection_value(face_selection),
        loose=loose,
        labels=labels or {},
        columns=columns or {},
        model=model,
        request_id=new_request_id(),
    )
    return Started(
        call(
            "ImportService/ImportFaces",
            request,
            pb.ImportFacesResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def get_import(name: Import | str, *, timeout: float | None = None) -> Call[Import]:
    """How an import stands, or how it ended.

    Raises:
        ImportNotFoundError: There is none of this name, or it is forgotten.
    """
    return call(
        "ImportService/GetImport",
        pb.GetImportRequest(name=resource(name, [Import])),
        pb.GetImportResponse,
        lambda answer: convert_imports.import_(convert_imports.inner(answer)),
        timeout,
    )


def list_imports(
    gallery: str, *, page_size: int = 0, timeout: float | None = None
) -> Pages[Import]:
    """The imports that a gallery keeps, oldest first, read page by page."""
    parent = gallery_name(gallery)

    def page(token: str) -> Call[Page[Import]]:
        return call(
            "ImportService/ListImports",
            pb.ListImportsRequest(parent=parent, page_size=page_size, page_token=token),
            pb.ListImportsResponse,
            lambda answer: Page(
                tuple(convert_imports.import_(one) for one in answer.imports),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def import_failures(
    name: Import | str,
    *,
    reason: str = "",
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[ImportFailure]:
    """What an import could not enrol, in the order of the source, read page by page.

    Args:
        name: The import, or its resource name.
        reason: Only those with this reason, such as ``NO_FACE``.
        page_size: Failures per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = resource(name, [Import])

    def page(token: str) -> Call[Page[ImportFailure]]:
        return call(
            "ImportService/ListImportFailures",
            pb.ListImportFailuresRequest(
                parent=parent, page_size=page_size, page_token=token, reason=reason
            ),
            pb.ListImportFailuresResponse,
            lambda answer: Page(
                tuple(convert_imports.failure(one) for one in answer.failures),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def pause_import(name: Import | str, *, timeout: float | None = None) -> Call[Import]:
    """Holds an import, also over a restart of the server, until `resume_import`.

    Raises:
        ImportNotFoundError: There is none of this name.
        FailedPreconditionError: It has ended.
    """
    return call(
        "ImportService/PauseImport",
        pb.PauseImportRequest(name=resource(name, [Import])),
        pb.PauseImportResponse,
        lambda answer: convert_imports.import_(convert_imports.inner(answer)),
        timeout,
    )


def resume_import(name: Import | str, *, timeout: float | None = None) -> Call[Import]:
    """Lets an import go on that was held.

    Raises:
        ImportNotFoundError: There is none of this name.
        FailedPreconditionError: It has ended.
    """
    return call(
        "ImportService/ResumeImport",
        pb.ResumeImportRequest(name=resource(name, [Import])),
        pb.ResumeImportResponse,
        lambda answer: convert_imports.import_(convert_imports.inner(answer)),
        timeout,
    )


def export_faces(
    gallery: str,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    timeout: float | None = None,
) -> Started[Export]:
    """Starts to write a gallery, as it is at this moment, into a Parquet file of the server.

    Args:
        gallery: Id of the gallery.
        path: Absolute path on the server, below a folder that it opens with ``--export-root``,
            ending in ``.parquet``. The file appears when it is complete.
        overwrite: Replace a file that is there.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is an `Export`.

    Raises:
        PathNotAllowedError: The server does not open that path.
        AlreadyExistsError: There is such a file.
    """
    request = pb.ExportFacesRequest(
        gallery=gallery_name(gallery),
        path=os.fspath(path),
        overwrite=overwrite,
        request_id=new_request_id(),
    )
    return Started(
        call(
            "ImportService/ExportFaces",
            request,
            pb.ExportFacesResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )
