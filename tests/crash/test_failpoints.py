"""A server killed at every named moment of its durable steps, under concurrent writes.

`tools/kill_campaign.py --failpoints 3` does the same at more arrivals, and with more faces.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign.campaign import Campaign
from campaign.failpoint_names import ELSEWHERE, failpoints_in_source, names_to_kill_at
from campaign.server import preload

from visagedb_indexer import failpoints

NAMES = names_to_kill_at()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    preload()
    campaign = Campaign(tmp_path_factory.mktemp("campaign") / "data", 1, lanes=3, bystanders=660)
    campaign.begin()
    yield campaign
    campaign.finish()
    assert not campaign.outcome.findings


def test_every_failpoint_is_named_once_and_properly() -> None:
    places = failpoints_in_source()
    assert all(failpoints.NAME.fullmatch(name) for name, _ in places), places
    assert [name for name, count in Counter(n for n, _ in places).items() if count > 1] == []


def test_failpoints_that_no_campaign_reaches_have_tests_of_their_own() -> None:
    for name, _ in failpoints_in_source():
        room, _, step = name.partition(".")
        if room in ELSEWHERE:
            text = (ROOT / ELSEWHERE[room]).read_text()
            assert step in text, f"{ELSEWHERE[room]} does not kill at {name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_there_loses_nothing_and_brings_nothing_back(campaign: Campaign, name: str) -> None:
    campaign.outcome.findings.clear()
    assert campaign.kill_at(name), "no write of the campaign comes past this failpoint"
    assert campaign.outcome.findings == []


@pytest.mark.parametrize(
    "name",
    [
        "commit.before_commands",
        "commit.before_sync",
        "columns.before_owners",
        "catalogue.before_sync",
        "gallery.after_folder",
        "codes.before_sync",
        "codes.before_rename",
        "checkpoint.before_sync",
        "clustering.before_faces_rename",
        "compaction.before_copy_sync",
        "backup.before_manifest",
        "export.before_write",
    ],
)
def test_a_disk_that_is_full_for_a_while_loses_nothing(campaign: Campaign, name: str) -> None:
    campaign.outcome.findings.clear()
    campaign.fail_at(name)
    assert campaign.outcome.findings == []


def test_kills_at_random_moments_do_no_harm_either(campaign: Campaign) -> None:
    campaign.outcome.findings.clear()
    for _ in range(5):
        campaign.kill_at_random()
    assert campaign.outcome.findings == []
