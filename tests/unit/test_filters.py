import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidFilterError
from visagedb_indexer.filters import And, Filter, HasLabel, Not, Or, parse_filter

KEYS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TERMS = st.builds(HasLabel, KEYS, VALUES | st.none())
FILTERS = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=4).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=4).map(tuple))
    ),
    max_leaves=8,
)


def written(chosen: Filter) -> str:
    match chosen:
        case HasLabel(key, None):
            return f"labels.{key}:*"
        case HasLabel(key, value):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'labels.{key} = "{escaped}"'
        case Not(term):
            return f"NOT ({written(term)})"
        case And(terms):
            return " AND ".join(f"({written(term)})" for term in terms)
        case Or(terms):
            return " OR ".join(f"({written(term)})" for term in terms)


@given(FILTERS)
def test_a_written_filter_is_read_back(chosen: Filter) -> None:
    text = written(chosen)
    if len(text) <= limits.FILTER_LENGTH_MAX:
        assert parse_filter(text) == chosen


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidFilterError):
        parse_filter(text)


TOKENS = ["labels.a", "labels.", "=", "!=", ":", "*", "(", ")", "AND", "OR", "NOT", '"', '"x"', "x"]


@given(st.lists(st.sampled_from(TOKENS), max_size=15))
def test_any_order_of_tokens_is_read_or_refused(tokens: list[str]) -> None:
    with contextlib.suppress(InvalidFilterError):
        parse_filter(" ".join(tokens))


@pytest.mark.parametrize("text", ["", " ", "\t\n  "])
def test_an_empty_filter_is_none(text: str) -> None:
    assert parse_filter(text) is None


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("labels.site=north", HasLabel("site", "north")),
        ('labels.site != "north"', Not(HasLabel("site", "north"))),
        ("labels.badge : *", HasLabel("badge", None)),
        ('labels.site="*"', HasLabel("site", "*")),
        ('labels.a="x" AND labels.b="AND"', And((HasLabel("a", "x"), HasLabel("b", "AND")))),
        ("NOT NOT labels.a=b", Not(Not(HasLabel("a", "b")))),
        ('labels.mail = "é\\"\\\\"', HasLabel("mail", 'é"\\')),
        ("labels.a=user@example.org", HasLabel("a", "user@example.org")),
    ],
)
def test_filters_mean_what_the_language_says(text: str, chosen: Filter) -> None:
    assert parse_filter(text) == chosen


@pytest.mark.parametrize(
    "text",
    [
        "site = north",
        "labels. = north",
        "labels.site",
        "labels.site =",
        "labels.site = =",
        "labels.site : north",
        "labels.site = *",
        'labels.site = "north',
        "labels.a=1 AND labels.b=2 OR labels.c=3",
        "(labels.a=1",
        "labels.a=1)",
        "labels.a=1 labels.b=2",
        "AND labels.a=1",
        "labels.a=1 AND",
        "NOT",
        "()",
        "labels.a < 3",
        "labels.a=\0",
        "labels.a=" + "x" * limits.FILTER_LENGTH_MAX,
        "(" * 100 + "labels.a=1" + ")" * 100,
        "NOT " * 900 + "labels.a=1",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError):
        parse_filter(text)


def test_nesting_is_allowed_up_to_the_limit() -> None:
    depth = limits.FILTER_DEPTH_MAX
    assert parse_filter("(" * depth + "labels.a=1" + ")" * depth) == HasLabel("a", "1")
    with pytest.raises(InvalidFilterError):
        parse_filter("(" * (depth + 1) + "labels.a=1" + ")" * (depth + 1))
