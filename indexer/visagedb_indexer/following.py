"""The structures in memory follow a durable change."""

from visagedb_indexer.commands import Effects, Result
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.search import SearchEngine


def follow(effects: Effects[Result], engine: SearchEngine, labels: LabelIndex) -> None:
    """Brings a gallery's search structures and labels up to a command; in commit order."""
    if effects.settings is not None:
        engine.promise(effects.settings.mate_loss_bound)
    if effects.arrivals is not None:
        labels.add_arrivals(effects.arrivals)
        engine.add_many(effects.arrivals.first_ordinal, effects.arrivals.owners)
    for identity in effects.created:
        labels.add(identity)
    for before, after in effects.replaced:
        labels.replace(before, after)
    for ordinal, number in effects.added_faces:
        engine.add(ordinal, number)
    if effects.removed_faces:
        engine.remove(effects.removed_faces)
    engine.reassign(effects.moved_faces)
    for identity in effects.deleted:
        labels.remove(identity)
