import math

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from support import random_vectors
from wire import DIMENSION, Api, read_pages, refused

from visagedb.v1 import galleries_pb2, types_pb2

VECTORS = random_vectors(5, DIMENSION)


def update(api: Api, mask: list[str], etag: str = "", **fields: object) -> galleries_pb2.Gallery:
    request = galleries_pb2.UpdateGalleryRequest(
        gallery=galleries_pb2.Gallery(name="galleries/people", etag=etag, **fields),
        update_mask=FieldMask(paths=mask),
    )
    return api.galleries.UpdateGallery(request).gallery


def test_a_new_gallery_says_what_it_is(api: Api) -> None:
    made = api.create_gallery("staff", display_name="Staff ☺", threshold=0.25)
    assert made.name == "galleries/staff"
    assert (made.model.name, made.model.dimension) == ("test", DIMENSION)
    assert (made.display_name, made.threshold) == ("Staff ☺", 0.25)
    assert made.create_time == made.update_time
    assert made.create_time.seconds > 1_600_000_000
    assert (made.identity_count, made.face_count, made.generation) == (0, 0, 0)
    assert made.score_fusion == galleries_pb2.SCORE_FUSION_ADAPTIVE_MEAN
    assert not made.embedding.flip_averaging
    assert api.gallery("staff") == made


@pytest.mark.parametrize("gallery_id", ["", "..", "a/b", "é", ".x", "a" * 129, "a b"])
def test_a_bad_gallery_id_is_refused(api: Api, gallery_id: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_NAME", "gallery"):
        api.create_gallery(gallery_id)


def test_a_taken_gallery_id_is_refused(api: Api) -> None:
    with refused("ALREADY_EXISTS", "GALLERY_EXISTS") as refusal:
        api.create_gallery()
    assert refusal.metadata == {"gallery": "people"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"mate_loss_bound": 0.5}, "mate_loss_bound"),
        ({"mate_loss_bound": -0.001}, "mate_loss_bound"),
        ({"mate_loss_bound": math.nan}, "mate_loss_bound"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"score_fusion": 99}, "score_fusion"),
        ({"model": types_pb2.ModelIdentity(name="test")}, "model.dimension"),
        ({"model": types_pb2.ModelIdentity(name="test", dimension=2049)}, "model.dimension"),
        ({"model": types_pb2.ModelIdentity(name="test", dimension=-1)}, "model.dimension"),
        ({"model": types_pb2.ModelIdentity(name="x" * 129, dimension=4)}, "model.name"),
        (
            {"model": types_pb2.ModelIdentity(name="x", version="v" * 129, dimension=4)},
            "model.version",
        ),
        (
            {"model": types_pb2.ModelIdentity(name="x", sha256="0" * 129, dimension=4)},
            "model.sha256",
        ),
    ],
)
def test_bad_settings_are_refused(api: Api, fields: dict[str, object], field: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", field):
        api.create_gallery("staff", **fields)
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        api.gallery("staff")


def test_the_same_request_creates_one_gallery(api: Api) -> None:
    model = types_pb2.ModelIdentity(name="test", dimension=4)
    request = galleries_pb2.CreateGalleryRequest(
        gallery_id="staff", gallery=galleries_pb2.Gallery(model=model), request_id="r1"
    )
    assert api.galleries.CreateGallery(request) == api.galleries.CreateGallery(request)
    request.gallery_id = "other"
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        api.galleries.CreateGallery(request)


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_all_pages_list_every_gallery_once(api: Api, page_size: int) -> None:
    for i in range(4):
        api.create_gallery(f"g{i}")
    request = galleries_pb2.ListGalleriesRequest(page_size=page_size)
    pages = [page.galleries for page in read_pages(api.galleries.ListGalleries, request)]
    assert all(len(page) <= page_size for page in pages)
    names = [gallery.name for page in pages for gallery in page]
    assert names == [f"galleries/{g}" for g in ("g0", "g1", "g2", "g3", "people")]


def test_a_gallery_deleted_between_pages_hides_no_other(api: Api) -> None:
    for i in range(4):
        api.create_gallery(f"g{i}")
    request = galleries_pb2.ListGalleriesRequest(page_size=2)
    page = api.galleries.ListGalleries(request)
    api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name="galleries/g0"))
    request.page_token = page.next_page_token
    rest = api.galleries.ListGalleries(request).galleries
    assert [gallery.name for gallery in rest] == ["galleries/g2", "galleries/g3"]


def test_a_foreign_page_token_is_refused(api: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
        api.galleries.ListGalleries(galleries_pb2.ListGalleriesRequest(page_token="AAAAAAAA"))  # noqa: S106
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "page_size"):
        api.galleries.ListGalleries(galleries_pb2.ListGalleriesRequest(page_size=-1))


def test_an_update_changes_what_the_mask_names(api: Api) -> None:
    before = api.gallery()
    after = update(api, ["display_name"], display_name="New", threshold=0.5)
    assert (after.display_name, after.HasField("threshold")) == ("New", False)
    assert after.etag != before.etag
    assert before.mate_loss_bound == 0.001
    after = update(api, ["mate_loss_bound"], mate_loss_bound=0.01)
    assert after.mate_loss_bound == 0.01
    after = update(api, ["mate_loss_bound"])
    assert after.mate_loss_bound == 0.001
    after = update(api, ["threshold"], threshold=0.5)
    assert (after.display_name, after.threshold) == ("New", 0.5)
    after = update(api, ["*"], display_name="Newer")
    assert (after.display_name, after.HasField("threshold")) == ("Newer", False)
    assert api.gallery() == after


@pytest.mark.parametrize("mask", [[], ["name"], ["model"], ["display_name", "uid"], ["*", "uid"]])
def test_a_mask_of_nothing_or_of_fixed_fields_is_refused(api: Api, mask: list[str]) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "update_mask"):
        update(api, mask)


def test_an_old_etag_is_refused(api: Api) -> None:
    old = api.gallery().etag
    new = update(api, ["display_name"], etag=old, display_name="x").etag
    with refused("ABORTED", "ETAG_MISMATCH"):
        update(api, ["display_name"], etag=old, display_name="y")
    with refused("ABORTED", "ETAG_MISMATCH"):
        api.galleries.DeleteGallery(
            galleries_pb2.DeleteGalleryRequest(name="galleries/people", etag=old)
        )
    assert api.gallery().display_name == "x"
    api.galleries.DeleteGallery(
        galleries_pb2.DeleteGalleryRequest(name="galleries/people", etag=new)
    )


def test_a_deleted_gallery_is_gone(api: Api) -> None:
    api.enroll("ada", VECTORS[0])
    request = galleries_pb2.DeleteGalleryRequest(name="galleries/people")
    api.galleries.DeleteGallery(request)
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        api.best(VECTORS[0])
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        api.galleries.DeleteGallery(request)
    request.allow_missing = True
    api.galleries.DeleteGallery(request)
    api.create_gallery()
    assert api.best(VECTORS[0]) == ""


def test_stats_count_what_is_there(api: Api) -> None:
    for i in range(3):
        api.enroll(f"p{i}", VECTORS[i])
    api.enroll("p0", VECTORS[3])
    stats = api.galleries.GetGalleryStats(
        galleries_pb2.GetGalleryStatsRequest(name="galleries/people")
    ).stats
    assert (stats.identity_count, stats.face_count) == (3, 4)
    assert stats.search.state == galleries_pb2.SEARCH_STATE_EXACT
    assert 0 < stats.storage.used_bytes <= stats.storage.file_bytes
    gallery = api.gallery()
    assert (gallery.identity_count, gallery.face_count) == (3, 4)
    assert gallery.generation == stats.generation > 0


@pytest.mark.parametrize("name", ["", "people", "galleries", "galleries/../x", "x" * 5000])
def test_a_bad_name_is_refused_everywhere(api: Api, name: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_NAME", "name"):
        api.galleries.GetGallery(galleries_pb2.GetGalleryRequest(name=name))
    with refused("INVALID_ARGUMENT", "INVALID_NAME", "name"):
        api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name=name))
    with refused("INVALID_ARGUMENT", "INVALID_NAME", "name"):
        api.galleries.GetGalleryStats(galleries_pb2.GetGalleryStatsRequest(name=name))
