"""visagedb cluster: group a gallery's faces by person."""

from itertools import islice
from typing import Annotated

import typer
from rich.table import Table

from visagedb._answers import Cluster, Clustering, ClusterMember
from visagedb._cli._options import FilterOption, GalleryArgument
from visagedb._cli._progress import waited
from visagedb._cli._session import Session, command
from visagedb._cli._tables import counted, listing

MEMBERS_SHOWN = 8


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "cluster")(cluster)


def cluster(
    session: Session,
    gallery: GalleryArgument,
    threshold: Annotated[
        float | None, typer.Option(help="Mean cosine above which clusters are one.")
    ] = None,
    min_size: Annotated[int, typer.Option(help="Leave out smaller clusters.", min=1)] = 2,
    limit: Annotated[int, typer.Option(help="Show at most this many; 0 for all.", min=0)] = 50,
    label_filter: FilterOption = "",
) -> None:
    """Group the faces of a gallery by person, without regard to who they are enrolled as."""
    operation = session.client.cluster(gallery, threshold=threshold, filter=label_filter)
    clustering = waited(session, operation, "clustering")
    found = session.client.clusters(clustering, min_size=min_size)
    groups = [
        (group, list(session.client.cluster_members(group)))
        for group in islice(found, limit or None)
    ]
    document = {
        "clustering": clustering,
        "clusters": [{"cluster": group, "members": members} for group, members in groups],
    }
    session.show(document, _table(clustering, groups))


def _table(clustering: Clustering, groups: list[tuple[Cluster, list[ClusterMember]]]) -> Table:
    table = listing("cluster", "faces", "cohesion", "members", right={"faces", "cohesion"})
    table.show_lines = True
    for group, members in groups:
        names = [member.source or member.face for member in members]
        shown = "\n".join(names[:MEMBERS_SHOWN])
        if len(names) > MEMBERS_SHOWN:
            shown += f"\n... and {len(names) - MEMBERS_SHOWN} more"
        table.add_row(group.id, str(group.size), f"{group.cohesion:.3f}", shown)
    table.caption = (
        f"{counted(clustering.cluster_count, 'cluster', 'clusters')} and "
        f"{counted(clustering.single_count, 'single face', 'single faces')} "
        f"of {clustering.face_count:,}; {clustering.method} at {clustering.threshold:.3f}"
    )
    return table
