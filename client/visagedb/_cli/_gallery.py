"""visagedb gallery ..."""

from typing import Annotated

import typer
from rich.table import Table

from visagedb._cli import _audit, _backup, _calibration, _erasure, _gate
from visagedb._cli._calibration import summary
from visagedb._cli._options import FusionOption, GalleryArgument, YesOption
from visagedb._cli._session import Session, command, confirm
from visagedb._cli._tables import facts, listing, when
from visagedb._gate import IdentityCheck, QualityCheck
from visagedb._resources import Gallery, GalleryQuotas, GalleryStats, SearchStats
from visagedb._values import UNSET, SearchState, Unset

app = typer.Typer(name="gallery", help="Galleries: sets of people.", no_args_is_help=True)
_audit.register(app)
_backup.register(app)
_calibration.register(app)
_erasure.register_compact(app)


@command(app, "create")
def create(
    session: Session,
    gallery: GalleryArgument,
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    model: Annotated[
        str, typer.Option(help="name or name@version; the server's default if not given.")
    ] = "",
    dimension: Annotated[
        int, typer.Option(help="Length of vectors, for a model the server does not run.")
    ] = 0,
    flip_averaging: Annotated[
        bool | None,
        typer.Option(
            "--flip-averaging/--no-flip-averaging",
            help="Fewer errors for twice the embedding time; on unless said otherwise.",
            show_default=False,
        ),
    ] = None,
    fusion: FusionOption = None,
    threshold: Annotated[
        float | None, typer.Option(help="The gallery's own decision threshold, a cosine.")
    ] = None,
    mate_loss_bound: Annotated[
        float,
        typer.Option(
            help="Fraction of the mates that the compact scan may lose; 0 for the default, 0.001."
        ),
    ] = 0.0,
    low_quality: _gate.LowQualityOption = None,
    min_quality: _gate.MinQualityOption = None,
    refuse_for: _gate.RefuseForOption = None,
    duplicates: _gate.DuplicatesOption = None,
    duplicate_threshold: _gate.DuplicateThresholdOption = None,
    duplicate_rate: _gate.DuplicateRateOption = None,
    mismatches: _gate.MismatchesOption = None,
    mismatch_threshold: _gate.MismatchThresholdOption = None,
    mismatch_rate: _gate.MismatchRateOption = None,
) -> None:
    """Create a gallery; its model is pinned for ever."""
    made = session.client.create_gallery(
        gallery,
        display_name=display_name,
        model=model,
        dimension=dimension,
        flip_averaging=flip_averaging,
        score_fusion=None if fusion is None else fusion.value,
        threshold=threshold,
        mate_loss_bound=mate_loss_bound,
        quality_check=_gate.quality_check(QualityCheck(), low_quality, min_quality, refuse_for),
        duplicate_check=_gate.identity_check(
            IdentityCheck(), duplicates, duplicate_threshold, duplicate_rate
        ),
        mismatch_check=_gate.identity_check(
            IdentityCheck(), mismatches, mismatch_threshold, mismatch_rate
        ),
    )
    session.show({"gallery": made}, _facts(made))


@command(app, "list")
def list_(session: Session) -> None:
    """List the galleries."""
    galleries = list(session.client.list_galleries())
    headings = ("gallery", "name", "model", "people", "faces", "created")
    table = listing(*headings, right={"people", "faces"})
    for gallery in galleries:
        table.add_row(
            gallery.id,
            gallery.problem or gallery.display_name,
            _model(gallery),
            f"{gallery.identity_count:,}",
            f"{gallery.face_count:,}",
            when(gallery.create_time),
        )
    session.show({"galleries": galleries}, table)


@command(app, "show")
def show(session: Session, gallery: GalleryArgument) -> None:
    """Show a gallery and the state of its search structures."""
    found = session.client.get_gallery(gallery)
    stats = session.client.gallery_stats(gallery)
    session.show({"gallery": found, "stats": stats}, _facts(found, stats))


@command(app, "update")
def update(
    session: Session,
    gallery: GalleryArgument,
    display_name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    fusion: FusionOption = None,
    threshold: Annotated[
        float | None, typer.Option(help="The gallery's own decision threshold, a cosine.")
    ] = None,
    no_threshold: Annotated[
        bool, typer.Option("--no-threshold", help="Go back to the calibration's or the model's.")
    ] = False,
    mate_loss_bound: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the mates that the compact scan may lose; 0 for the default."
        ),
    ] = None,
    low_quality: _gate.LowQualityOption = None,
    min_quality: _gate.MinQualityOption = None,
    refuse_for: _gate.RefuseForOption = None,
    duplicates: _gate.DuplicatesOption = None,
    duplicate_threshold: _gate.DuplicateThresholdOption = None,
    duplicate_rate: _gate.DuplicateRateOption = None,
    mismatches: _gate.MismatchesOption = None,
    mismatch_threshold: _gate.MismatchThresholdOption = None,
    mismatch_rate: _gate.MismatchRateOption = None,
    max_identities: Annotated[
        int | None, typer.Option(help="Quota of identities; 0 for none.", min=0)
    ] = None,
    max_faces: Annotated[
        int | None, typer.Option(help="Quota of faces; 0 for none.", min=0)
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(help="Quota of the database's bytes; 0 for none.", min=0)
    ] = None,
) -> None:
    """Change settings of a gallery; what is not given stays as it is."""
    if no_threshold and threshold is not None:
        raise typer.BadParameter("give a threshold or --no-threshold, not both")
    keep_threshold = threshold is None and not no_threshold
    old = session.client.get_gallery(gallery)
    quality = _gate.quality_check(old.quality_check, low_quality, min_quality, refuse_for)
    duplicate = _gate.identity_check(
        old.duplicate_check, duplicates, duplicate_threshold, duplicate_rate
    )
    mismatch = _gate.identity_check(
        old.mismatch_check, mismatches, mismatch_threshold, mismatch_rate
    )
    checked = (quality, duplicate, mismatch) != (
        old.quality_check, old.duplicate_check, old.mismatch_check
    )  # fmt: skip
    changed = session.client.update_gallery(
        gallery,
        quality_check=UNSET if quality == old.quality_check else quality,
        duplicate_check=UNSET if duplicate == old.duplicate_check else duplicate,
        mismatch_check=UNSET if mismatch == old.mismatch_check else mismatch,
        # What is not given was read before.
        etag=old.etag if checked else "",
        display_name=UNSET if display_name is None else display_name,
        threshold=UNSET if keep_threshold else threshold,
        score_fusion=UNSET if fusion is None else fusion.value,
        mate_loss_bound=UNSET if mate_loss_bound is None else mate_loss_bound,
        quotas=_quotas(session, gallery, max_identities, max_faces, max_bytes),
    )
    session.show({"gallery": changed}, _facts(changed))


@command(app, "delete")
def delete(
    session: Session,
    gallery: GalleryArgument,
    yes: YesOption = False,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if absent.")] = False,
) -> None:
    """Delete a gallery and every face in it, at once and for ever."""
    confirm(session, f"Delete gallery {gallery} with all its faces?", yes=yes)
    receipt = session.client.delete_gallery(gallery, missing_ok=missing_ok)
    session.show({"deleted": gallery, "erasure": receipt}, f"deleted gallery {gallery}")


def _quotas(
    session: Session, gallery: str, identities: int | None, faces: int | None, size: int | None
) -> GalleryQuotas | Unset:
    """The quotas with what was given; those that were not stay."""
    if identities is faces is size is None:
        return UNSET
    old = session.client.get_gallery(gallery).quotas
    return GalleryQuotas(
        old.identities_max if identities is None else identities,
        old.faces_max if faces is None else faces,
        old.bytes_max if size is None else size,
    )


def _quota_text(quotas: GalleryQuotas) -> str:
    limits = {
        "identities": quotas.identities_max,
        "faces": quotas.faces_max,
        "bytes": quotas.bytes_max,
    }
    return ", ".join(f"{most:,} {what}" for what, most in limits.items() if most)


def _model(gallery: Gallery) -> str:
    model = gallery.model
    version = f"@{model.version}" if model.version else ""
    return f"{model.name}{version} ({model.dimension}-d)"


def _search_state(search: SearchStats) -> str:
    if search.state is SearchState.BUILDING:
        return f"building codes, {search.build_progress:.0%} done; exact until then"
    return f"{search.state} ({search.indexed_face_count:,} faces in codes)"


def _facts(gallery: Gallery, stats: GalleryStats | None = None) -> Table:
    rows = {
        "gallery": gallery.id,
        "display name": gallery.display_name,
        "model": _model(gallery),
        "flip averaging": "on" if gallery.flip_averaging else "off",
        "score fusion": gallery.score_fusion.value.replace("_", " "),
        "threshold": "the model's" if gallery.threshold is None else f"{gallery.threshold:.3f}",
        "low quality": _gate.quality_text(gallery.quality_check),
        "duplicates": _gate.identity_text(gallery.duplicate_check),
        "mismatches": _gate.identity_text(gallery.mismatch_check),
        "people": f"{gallery.identity_count:,}",
        "faces": f"{gallery.face_count:,}"
        + (f", {gallery.loose_face_count:,} of them loose" if gallery.loose_face_count else ""),
        "quotas": _quota_text(gallery.quotas),
        "created": when(gallery.create_time),
        "updated": when(gallery.update_time),
    }
    if stats is not None:
        if stats.quarantined_face_count:
            rows["quarantine"] = f"{stats.quarantined_face_count:,} faces"
        rows["search"] = _search_state(stats.search)
        rows["search memory"] = f"{stats.search.memory_bytes / 1e6:,.1f} MB"
        rows["storage"] = f"{stats.storage_used_bytes / 1e6:,.1f} MB used"
        rows["calibration"] = summary(stats.calibration)
        if stats.calibration is not None and gallery.threshold is None:
            rows["threshold"] = "the calibration's"
        loss = stats.search.mate_loss
        if loss is not None:
            rows["lost mates"] = (
                f"{loss.measured:.3%} of {loss.probe_count:,} hard probes, at most "
                f"{loss.upper:.3%} (bound {loss.bound:.3%})"
            )
    return facts(rows)
