import threading
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import identity_record

from visagedb_indexer.filters import And, Filter, HasLabel, Not, Or, parse_filter
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.store import IdentityRecord

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", ""]), max_size=3)
TERMS = st.builds(HasLabel, st.sampled_from("abcd"), st.sampled_from(["x", "y", "", None]))
FILTERS = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=6,
)


def passes(labels: dict[str, str], chosen: Filter | None) -> bool:
    match chosen:
        case None:
            return True
        case HasLabel(key, None):
            return key in labels
        case HasLabel(key, value):
            return labels.get(key) == value
        case Not(term):
            return not passes(labels, term)
        case And(terms):
            return all(passes(labels, term) for term in terms)
        case Or(terms):
            return any(passes(labels, term) for term in terms)


class LabelIndexAgainstADict(RuleBasedStateMachine):
    """The index is filled lazily from the dict, and told of every change."""

    def __init__(self) -> None:
        super().__init__()
        self.people: dict[int, IdentityRecord] = {}
        self.next_number = 0
        self.index = LabelIndex([], self.load)

    def load(self, key: str, value: str | None) -> list[int]:
        term = HasLabel(key, value)
        return [n for n, record in self.people.items() if passes(record.labels, term)]

    @rule(labels=LABELS)
    def create(self, labels: dict[str, str]) -> None:
        record = replace(identity_record("p", labels), number=self.next_number)
        self.next_number += 1
        self.people[record.number] = record
        self.index.add(record)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.people:
            number = data.draw(st.sampled_from(sorted(self.people)))
            self.index.remove(self.people.pop(number))

    @rule(data=st.data(), labels=LABELS)
    def relabel(self, data: st.DataObject, labels: dict[str, str]) -> None:
        if self.people:
            number = data.draw(st.sampled_from(sorted(self.people)))
            old = self.people[number]
            self.people[number] = replace(old, labels=labels)
            self.index.replace(old, self.people[number])

    @rule(chosen=FILTERS | st.none(), after=st.integers(-1, 10))
    def ask(self, chosen: Filter | None, after: int) -> None:
        right = [n for n, record in self.people.items() if passes(record.labels, chosen)]
        assert list(self.index.numbers(chosen, after)) == [n for n in right if n > after]
        mask = self.index.mask(chosen)
        assert (mask is None) == (chosen is None)
        if mask is not None:
            assert np.flatnonzero(mask).tolist() == right

    @invariant()
    def all_are_listed(self) -> None:
        assert list(self.index.numbers(None)) == sorted(self.people)


TestLabelIndex = LabelIndexAgainstADict.TestCase
TestLabelIndex.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.integers(0, 2**32 - 2))
def test_listing_may_go_on_after_any_number(after: int) -> None:
    assert list(LabelIndex([0, 5], lambda *_: []).numbers(None, after)) == [
        n for n in (0, 5) if n > after
    ]


def test_an_identity_is_listed_at_every_moment_of_its_relabelling() -> None:
    record = replace(identity_record("p", {"a": "x"}), number=0)
    index = LabelIndex([0], lambda *_: [0])
    stop = threading.Event()

    def relabel() -> None:
        while not stop.is_set():
            index.replace(record, record)

    thread = threading.Thread(target=relabel)
    thread.start()
    try:
        chosen = parse_filter("labels.a=x")
        for _ in range(3000):
            assert list(index.numbers(None)) == [0]
            assert list(index.numbers(chosen)) == [0]
    finally:
        stop.set()
        thread.join()
