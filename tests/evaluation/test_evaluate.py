"""Comparisons, operating points, splits and intervals, against plain loops."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from evaluation.people import made_up

from visagedb_indexer import limits
from visagedb_indexer.errors import LimitExceededError
from visagedb_indexer.evaluation import (
    Bootstrap,
    InvalidPairListError,
    OpenSet,
    ScoredPairs,
    Settings,
    TooFewPeopleError,
    comparisons,
    drawn_people,
    evaluate_faces,
    evaluate_pairs,
    identification,
    labelled_faces,
)
from visagedb_indexer.evaluation.bootstrap import interval_of_rate
from visagedb_indexer.evaluation.comparisons import compare_all
from visagedb_indexer.evaluation.identification import gallery_sizes, search_splits
from visagedb_indexer.evaluation.quality import quality_effect
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.values import Fusion

FEW = Settings(bootstrap=Bootstrap(draws=20))


def test_all_pairs_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(comparisons, "_TAIL_PAIRS", 50)
    faces = made_up(9, 3)
    found = compare_all(faces)
    mates, impostors = {}, {}
    for one, other in itertools.combinations(range(len(faces)), 2):
        score = float(faces.vectors[one] @ faces.vectors[other])
        same = faces.owners[one] == faces.owners[other]
        (mates if same else impostors)[one, other] = score
    np.testing.assert_allclose(found.mate_scores, sorted(mates.values()), atol=1e-6)
    np.testing.assert_allclose(found.impostor_scores, sorted(impostors.values()), atol=1e-6)
    listed = [mates[int(one), int(other)] for one, other in found.mate_pairs]
    np.testing.assert_allclose(listed, found.mate_scores, atol=1e-6)
    assert len(found.tail_pairs) == 50
    listed = [impostors[int(one), int(other)] for one, other in found.tail_pairs]
    np.testing.assert_allclose(listed, found.impostor_scores[-50:], atol=1e-6)


def test_the_weight_of_all_impostors_needs_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = made_up(12, 3)
    whole = compare_all(faces)
    monkeypatch.setattr(comparisons, "_TAIL_PAIRS", 20)
    part = compare_all(faces)
    assert len(part.tail_pairs) < len(whole.tail_pairs) == len(whole.impostor_scores)
    for weights in Bootstrap(5).weights(12):
        one, other = faces.owners[whole.tail_pairs].T
        expected = float(np.sum(weights[one] * weights[other]))
        tail = np.ones(len(part.tail_pairs))
        assert part.impostor_weight(weights, tail) == pytest.approx(expected)


def test_searches_are_those_of_the_definition() -> None:
    faces = made_up(30, 3)
    protocol = OpenSet(splits=3, strangers=0.4, enrolled=2, seed=9)
    for fusion in Fusion:
        splits = list(search_splits(faces, replace(protocol, fusion=fusion)))
        assert len(splits) == 3
        for split in splits:
            assert list(split.sizes) == [9, 18]
            strangers = set(split.stranger_owners.tolist())
            assert len(strangers) == 12
            assert len(split.stranger_owners) == 36
            # Everybody else is enrolled with two faces, and searched for with the third.
            assert sorted(split.mated_owners.tolist()) == sorted(set(range(30)) - strangers)
            hits, owners = split.hits(1)
            assert len(hits) == len(owners) == 18
            first = split.mated_ranks == 1
            np.testing.assert_array_equal(hits > -2, first)


def test_one_enrolled_image_against_plain_loops() -> None:
    faces = made_up(20, 2, noise=1.5)
    (split,) = search_splits(faces, OpenSet(splits=1, strangers=0.25))
    enrolled = sorted(set(range(20)) - set(split.stranger_owners.tolist()))
    for number, person in enumerate(split.mated_owners.tolist()):
        one, other = np.flatnonzero(faces.owners == person)
        score = float(faces.vectors[one] @ faces.vectors[other])
        assert split.mated_scores[number] == pytest.approx(score, abs=1e-6)
    assert len(enrolled) == 15
    # A larger part of the gallery can only bring better impostors.
    assert np.all(np.diff(split.impostor_scores, axis=1) >= 0)
    assert np.all(np.diff(split.stranger_scores, axis=1) >= 0)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_fused_searches_against_plain_loops(
    fusion: Fusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "_BLOCK_ROWS", 7)
    faces = made_up(24, 4, noise=1.5)
    of_person = np.arange(96).reshape(24, 4)
    templates = [own[: 1 + number % 3] for number, own in enumerate(of_person[:18])]
    probes = [own[3:] for own in of_person[:18]]
    strangers = of_person[18:].ravel()
    split = identification._search(faces, templates, probes, strangers, fusion)

    def scores(probe: int) -> list[float]:
        found = []
        for enrolled in templates:
            vectors, start = faces.vectors[enrolled], np.zeros(1, np.int64)
            quality = faces.quality[enrolled].astype(np.float32)
            cosines = vectors @ faces.vectors[probe]
            found.append(float(fused_scores(cosines, vectors, start, fusion, quality)[0]))
        return found

    assert split.sizes.tolist() == [9, 18]
    for row, (probe,) in enumerate(probes):
        others = scores(probe)
        of_mate = others.pop(row)
        assert split.mated_scores[row] == pytest.approx(of_mate, abs=1e-5)
        assert split.impostor_scores[row, 1] == pytest.approx(max(others), abs=1e-5)
        assert split.mated_ranks[row] == 1 + sum(score >= of_mate for score in others)
    for row, probe in enumerate(strangers.tolist()):
        best = [max(scores(probe)[:size]) for size in (9, 18)]
        np.testing.assert_allclose(split.stranger_scores[row], best, atol=1e-5)


def test_the_figures_of_an_evaluation_agree_with_each_other() -> None:
    found = evaluate_faces(made_up(100, 4), FEW)
    point = found.verification.points[0]
    assert point.fmr <= point.target_fmr == 0.01
    assert point.tar == pytest.approx(1 - point.fnmr)
    assert point.fnmr_interval is not None
    assert point.fnmr_interval.lower <= point.fnmr <= point.fnmr_interval.upper
    rates = found.verification.curve.fnmr
    assert np.all(np.diff(rates) >= 0)
    assert found.identification is not None
    ranks = [rank.rate for rank in found.identification.ranks]
    assert ranks == sorted(ranks)
    assert found.identification.sizes[-1].people == found.identification.enrolled_people == 67
    last = found.identification.sizes[-1]
    assert last.rank_one_miss == pytest.approx(1 - ranks[0])
    fnirs = [p.fnir for p in found.identification.points]
    assert fnirs == sorted(fnirs)
    assert last.fnir == pytest.approx(
        next(p.fnir for p in found.identification.points if p.target_fpir == 0.01)
    )
    assert found.quality is not None
    # Quality says how noisy a face is here, so leaving out bad pairs helps.
    assert found.quality.fnmr[-1] < found.quality.fnmr[0]
    assert found.quality.fnmr[0] == pytest.approx(found.quality.ideal_fnmr[0])
    assert sum(part.pairs for part in found.quality.bins) == found.verification.mate_count


def test_more_enrolled_images_find_more() -> None:
    faces = made_up(60, 5)
    found = []
    for fusion, enrolled in ((Fusion.MAXIMUM, 1), (Fusion.MAXIMUM, 3), (Fusion.MEAN_VECTOR, 3)):
        protocol = OpenSet(enrolled=enrolled, fusion=fusion)
        result = evaluate_faces(faces, replace(FEW, open_set=protocol)).identification
        assert result is not None
        found.append(result.points[0].fnir)
    assert found[0] > found[1] > found[2]


def test_the_same_seed_gives_the_same_figures() -> None:
    faces = made_up(25, 3)
    one, other = evaluate_faces(faces, FEW), evaluate_faces(faces, FEW)
    assert one.verification.points == other.verification.points
    assert one.identification is not None
    assert other.identification is not None
    assert one.identification.points == other.identification.points


def test_intervals_cover_the_truth() -> None:
    """Of evaluations of many samples of the same kind, most intervals hold the true rate."""
    truth = evaluate_faces(made_up(700, 3, seed=1), Settings(bootstrap=Bootstrap(0)))
    expected = truth.verification.points[0].fnmr
    covered = 0
    for seed in range(40):
        sample = made_up(50, 3, seed=100 + seed)
        interval = (
            evaluate_faces(sample, Settings(OpenSet(splits=1), Bootstrap(100)))
            .verification.points[0]
            .fnmr_interval
        )
        assert interval is not None
        covered += interval.lower <= expected <= interval.upper
    assert covered >= 32


def test_no_error_is_no_certainty() -> None:
    interval = interval_of_rate(np.zeros(100), 0.0, np.full(30, 4))
    assert interval is not None
    assert interval.lower == 0
    # With this rate, thirty people show no error once in forty times.
    assert (1 - interval.upper) ** 30 == pytest.approx(0.025)
    assert interval_of_rate(np.full(3, np.nan), 0.5, np.ones(3, dtype=np.int64)) is None


def test_few_weighty_people_make_wide_intervals() -> None:
    samples = np.random.default_rng(1).uniform(0.05, 0.15, 1000)
    alike = interval_of_rate(samples, 0.1, np.full(1000, 5))
    few = interval_of_rate(samples, 0.1, np.array([500, 500, 500, *[1] * 100]))
    assert alike is not None
    assert few is not None
    assert few.lower < alike.lower < 0.1 < alike.upper < few.upper
    assert alike.lower == pytest.approx(float(np.quantile(samples, 0.025)), abs=1e-3)


def test_mistakes_are_the_planted_ones() -> None:
    faces = made_up(30, 4, noise=0.3)
    vectors = faces.vectors.copy()
    names = [faces.people[owner] for owner in faces.owners]
    # Face 0 gets into the folder of person 5, and person 7 has a second name.
    names[0] = faces.people[5]
    names[28] = names[29] = "another name"
    found = evaluate_faces(labelled_faces(vectors, names), FEW)
    wrong = {found.false_non_matches[0].one, found.false_non_matches[0].other}
    assert 0 in wrong
    assert all({m.one, m.other}.isdisjoint({0}) for m in found.false_non_matches[1:])
    pairs = [{names[m.one], names[m.other]} for m in found.false_matches[:2]]
    assert {"another name", faces.people[7]} in pairs
    assert {faces.people[0], faces.people[5]} in pairs
    assert len({frozenset((names[m.one], names[m.other])) for m in found.false_matches}) == 12


def test_without_quality_there_is_no_figure_of_it() -> None:
    faces = made_up(10, 3)
    known = replace(faces, quality=np.full(len(faces), np.nan))
    assert quality_effect(compare_all(known), known.quality, Bootstrap(5)) is None
    alike = replace(faces, quality=np.ones(len(faces)))
    effect = quality_effect(compare_all(alike), alike.quality, Bootstrap(5))
    assert effect is not None
    assert len(effect.bins) == 1
    # Pairs of the same quality are in no order: leaving some out changes nothing.
    np.testing.assert_allclose(effect.fnmr, effect.fnmr[0])


def test_a_list_of_pairs() -> None:
    faces = made_up(40, 2)
    mates = np.arange(80).reshape(40, 2)
    impostors = np.stack([np.arange(0, 80, 2), np.roll(np.arange(0, 80, 2), 1)], axis=1)
    pairs = np.concatenate([mates, impostors])
    scores = np.einsum("ij,ij->i", faces.vectors[pairs[:, 0]], faces.vectors[pairs[:, 1]])
    same = [True] * 40 + [False] * 40
    listed = ScoredPairs(scores, same, pairs, faces.owners, faces.quality)
    found = evaluate_pairs(listed, FEW)
    assert found.identification is None
    assert found.folds is not None
    assert not found.folds.given
    assert len(found.folds.folds) == 10
    assert found.verification.mate_count == found.verification.impostor_count == 40
    assert [p.target_fmr for p in found.verification.points] == [0.01]
    assert not found.verification.points[0].reliable
    with pytest.raises(InvalidPairListError, match="two different people"):
        evaluate_pairs(replace(listed, same=[True] * 80), FEW)


def test_too_few_people(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = made_up(3, 2)
    with pytest.raises(TooFewPeopleError, match="at least two"):
        labelled_faces(faces.vectors, ["a"] * 6)
    with pytest.raises(TooFewPeopleError, match="needs two"):
        labelled_faces(faces.vectors, list("abcdef"))
    two = labelled_faces(faces.vectors[:3], ["a", "a", "b"])
    assert evaluate_faces(two, FEW).verification.mate_count == 1
    monkeypatch.setattr(limits, "EVALUATED_FACES_MAX", 5)
    with pytest.raises(LimitExceededError):
        compare_all(faces)


def test_whole_people_are_drawn() -> None:
    names = [f"p{number // 3}" for number in range(30)]
    kept = drawn_people(names, 10, seed=4)
    assert len(kept) == 9
    assert len({names[position] for position in kept}) == 3
    assert drawn_people(names, 30, seed=4) == list(range(30))


def test_gallery_sizes() -> None:
    assert gallery_sizes(5).tolist() == [5]
    assert gallery_sizes(100).tolist() == [12, 25, 50, 100]
    assert len(gallery_sizes(1_000_000)) == 8
