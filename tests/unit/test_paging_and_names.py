import base64
import contextlib

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidArgumentError, InvalidNameError, InvalidPageTokenError
from visagedb_server import names, paging

IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@pytest.mark.parametrize(
    ("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_page_sizes(asked: int, size: int) -> None:
    assert paging.page_size(asked) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        paging.page_size(-1)


@given(st.integers(0, 10**9 - 1), TEXTS)
def test_a_number_comes_back_from_its_token(position: int, listing: str) -> None:
    assert paging.read_number(paging.token_after(position, listing), listing) == position


@given(IDS, TEXTS)
def test_an_id_comes_back_from_its_token(position: str, listing: str) -> None:
    assert paging.read_token(paging.token_after(position, listing), listing) == position


def test_no_token_means_the_first_page() -> None:
    assert paging.read_token("", "x") == ""
    assert paging.read_number("", "x") == -1


@given(TEXTS.filter(bool))
def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        paging.read_token(token, "galleries")


def test_the_token_of_another_listing_is_refused() -> None:
    with pytest.raises(InvalidPageTokenError):
        paging.read_number(paging.token_after(3, "one"), "other")


@given(st.text(st.characters(max_codepoint=127), min_size=1, max_size=30))
def test_a_forged_token_is_refused_or_small(position: str) -> None:
    forged = paging.token_after(position, "faces")
    with contextlib.suppress(InvalidPageTokenError):
        assert -1 <= paging.read_number(forged, "faces") < 10**9


def test_a_forged_token_without_position_is_refused() -> None:
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(paging.token_after("x", "a"))[:4])
    with pytest.raises(InvalidPageTokenError):
        paging.read_token(forged.decode(), "a")


@given(st.integers(0, 30), st.integers(1, 20))
def test_a_page_has_its_size_and_knows_whether_more_follow(count: int, size: int) -> None:
    items = [StringValue(value=str(i)) for i in range(count)]
    page, more = paging.cut_page(items, size)
    assert list(page) == items[:size]
    assert more == (count > size)


def test_a_page_of_large_items_is_cut_short_but_never_empty() -> None:
    items = [StringValue(value="x" * limits.MIB) for _ in range(10)]
    page, more = paging.cut_page(items, 10)
    assert (len(page), more) == (3, True)
    page, more = paging.cut_page([StringValue(value="x" * (5 * limits.MIB))] * 2, 10)
    assert (len(page), more) == (1, True)


@given(IDS, IDS, IDS, st.integers(0, 10**9 - 1))
def test_names_are_read_as_they_were_written(a: str, b: str, c: str, rank: int) -> None:
    assert names.parse_gallery(names.gallery_name(a)) == a
    assert names.parse_identity(names.identity_name(a, b)) == (a, b)
    assert names.parse_face(names.face_name(a, b, c)) == (a, b, c)
    assert names.parse_clustering(names.clustering_name(a, b)) == (a, b)
    assert names.parse_cluster(names.cluster_name(a, b, rank)) == (a, b, rank)
    assert names.parse_operation(names.operation_name(a)) == a


PARSERS = [
    names.parse_gallery,
    names.parse_identity,
    names.parse_face,
    names.parse_clustering,
    names.parse_cluster,
    names.parse_operation,
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "galleries",
        "galleries/",
        "galleries/..",
        "galleries/../x",
        "/galleries/x",
        "galleries/x/",
        "galleries/x/identities/../faces/x",
        "galleries/x/clusterings/y/clusters/-1",
        "galleries/x/clusterings/y/clusters/²",
        "galleries/x/clusterings/y/clusters/1234567890",
        "operations/a/b",
        "Galleries/x",
        "galleries/é",
        "x" * 10_000,
    ],
)
def test_other_names_are_refused(parse: object, name: str) -> None:
    with pytest.raises(InvalidNameError):
        parse(name)


@given(st.sampled_from(PARSERS), st.text(st.sampled_from("galleriesfc/.x0é\0"), max_size=40))
def test_any_text_is_a_name_or_refused(parse: object, name: str) -> None:
    with contextlib.suppress(InvalidNameError):
        parse(name)
