"""visagedb clusters ...: what is done with the result of a clustering."""

from typing import Annotated

import typer
from rich.table import Table

from visagedb._answers import Cluster
from visagedb._cli._cluster import LATEST, clustering_name
from visagedb._cli._options import GalleryArgument
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, face_text, facts, listing, when
from visagedb._values import FaceScope

app = typer.Typer(
    name="clusters",
    help="Look at clusters, name them, join and split them.",
    no_args_is_help=True,
)

ClusterArgument = Annotated[
    str, typer.Argument(help="Number of the cluster, as cluster shows it.", show_default=False)
]
ClusteringOption = Annotated[
    str, typer.Option("--clustering", help="Id of the clustering; the latest if not given.")
]


@command(app, "list")
def list_(session: Session, gallery: GalleryArgument) -> None:
    """List the clusterings that a gallery keeps, oldest first."""
    found = list(session.client.list_clusterings(gallery))
    counts = ("faces", "people", "single faces", "edits")
    table = listing("clustering", "made", *counts, "method", "scope", right=set(counts))
    for one in found:
        table.add_row(
            one.id,
            when(one.create_time),
            f"{one.face_count:,}",
            f"{one.cluster_count:,}",
            f"{one.single_count:,}",
            str(one.edit_count),
            one.method,
            one.filter or str(one.scope or ""),
        )
    session.show({"clusterings": found}, table)


@command(app, "show")
def show(
    session: Session,
    gallery: GalleryArgument,
    cluster: ClusterArgument,
    clustering: ClusteringOption = LATEST,
) -> None:
    """Show the faces of a cluster, the most typical first."""
    members = list(session.client.cluster_members(_name(session, gallery, clustering, cluster)))
    table = listing("face", "identity", "centrality", "source", "found", right={"centrality"})
    for member in members:
        table.add_row(
            member.face,
            member.identity,
            f"{member.centrality:.3f}",
            member.source,
            face_text(member.detection),
        )
    session.show({"members": members}, table)


@command(app, "name")
def name(
    session: Session,
    gallery: GalleryArgument,
    cluster: ClusterArgument,
    identity: Annotated[
        str, typer.Argument(help="Id of the person; created if missing.", show_default=False)
    ],
    display_name: Annotated[str, typer.Option(help="Name of a person that is created.")] = "",
    clustering: ClusteringOption = LATEST,
    scope: Annotated[FaceScope, typer.Option(help="Which faces of the cluster.")] = FaceScope.LOOSE,
) -> None:
    """Make a cluster a person, or part of one. Can be undone."""
    change = session.client.assign_cluster(
        _name(session, gallery, clustering, cluster),
        identity,
        display_name=display_name,
        scope=scope,
    )
    undo = (
        f"; undo with: visagedb identity undo {gallery} {change.lineage.id}"
        if (change.lineage)
        else ""
    )
    session.show(change, f"{identity} has {counted(change.face_count, 'face', 'faces')} more{undo}")


@command(app, "join")
def join(
    session: Session,
    gallery: GalleryArgument,
    clusters: Annotated[
        list[str], typer.Argument(help="Numbers of the clusters.", show_default=False)
    ],
    clustering: ClusteringOption = LATEST,
) -> None:
    """Make one cluster of several; people are not touched."""
    whole = clustering_name(session, gallery, clustering)
    joined = session.client.join_clusters([_in(whole, one) for one in clusters])
    session.show({"cluster": joined}, _facts(joined))


@command(app, "split")
def split(
    session: Session,
    gallery: GalleryArgument,
    cluster: ClusterArgument,
    faces: Annotated[list[str], typer.Argument(help="The faces that leave, as show prints them.")],
    clustering: ClusteringOption = LATEST,
) -> None:
    """Make a cluster of its own of some faces of one; people are not touched."""
    left = session.client.split_cluster(_name(session, gallery, clustering, cluster), faces)
    session.show({"cluster": left}, _facts(left))


@command(app, "undo")
def undo(session: Session, gallery: GalleryArgument, clustering: ClusteringOption = LATEST) -> None:
    """Undo the last join or split."""
    after = session.client.undo_cluster_edit(clustering_name(session, gallery, clustering))
    left = counted(after.edit_count, "edit is left", "edits are left")
    session.show({"clustering": after}, f"undone; {left}")


@command(app, "delete")
def delete(
    session: Session,
    gallery: GalleryArgument,
    clustering: Annotated[str, typer.Argument(help="Id of the clustering.", show_default=False)],
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if absent.")] = False,
) -> None:
    """Forget a clustering; faces and people stay."""
    named = clustering_name(session, gallery, clustering)
    session.client.delete_clustering(named, missing_ok=missing_ok)
    session.show({"deleted": named}, f"deleted {named}")


def _name(session: Session, gallery: str, clustering: str, cluster: str) -> str:
    if "/" in cluster:
        return cluster
    return _in(clustering_name(session, gallery, clustering), cluster)


def _in(clustering: str, cluster: str) -> str:
    return cluster if "/" in cluster else f"{clustering}/clusters/{cluster}"


def _facts(cluster: Cluster) -> Table:
    return facts(
        {
            "cluster": cluster.id,
            "faces": f"{cluster.size:,}",
            "cohesion": f"{cluster.cohesion:.3f}",
        }
    )
