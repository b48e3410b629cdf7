from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from calibration.label_errors import confident_joint, find_label_errors, find_score_errors
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import scores_and_truth


def planted(rows: int, k: int, share: float) -> tuple[FloatArray, IntArray, IntArray]:
    """Scores of a model that is nearly always right, labels of which a share was replaced, and where."""
    generator = np.random.default_rng(11)
    truth = generator.integers(0, k, rows)
    scores = generator.normal(size=(rows, k)) + 5.0 * np.eye(k)[truth]
    wrong = generator.choice(rows, int(share * rows), replace=False)
    given_labels = truth.copy()
    given_labels[wrong] = (truth[wrong] + generator.integers(1, k, len(wrong))) % k
    return scores, given_labels, np.sort(wrong)


def test_planted_errors_are_found_first() -> None:
    scores, labels, wrong = planted(1000, 4, 0.05)
    found = find_label_errors(scores, labels)
    assert np.isin(found.places, wrong).mean() > 0.95
    assert np.isin(wrong, found.places).mean() > 0.8
    assert found.share == pytest.approx(0.05, abs=0.02)
    assert (np.diff(found.margin) >= 0).all()
    assert (found.margin <= 0).all()
    assert (found.suggested != labels[found.places]).all()
    assert f"{len(found.places):,} are worth a second look" in found.why


def test_the_confident_joint_by_hand() -> None:
    """Thresholds are the mean of a label's own rows: 0.6 for label 0, (0.9 + 0.8 + 0.1) / 3 = 0.6 for label 1."""
    p = np.array([[0.7, 0.3], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    labels = np.array([0, 0, 1, 1, 1])
    assert confident_joint(np.log(p), labels).tolist() == [[1, 0], [1, 2]]
    found = find_label_errors(np.log(p), labels)
    assert found.places.tolist() == [4]
    assert found.suggested.tolist() == [0]
    assert found.margin.tolist() == pytest.approx([-0.8])
    assert found.joint is not None
    # Row 1 counts as neither label, so one row stands for both that were given label 0.
    assert found.joint.tolist() == [[pytest.approx(0.4), 0], [pytest.approx(0.2), pytest.approx(0.4)]]
    assert found.share == pytest.approx(0.2)


def test_the_same_as_the_reference_implementation() -> None:
    """What cleanlab 2.9.0 gives for these rows: compute_confident_joint(calibrate=False) and find_label_issues
    (filter_by="confident_learning", return_indices_ranked_by="normalized_margin")."""
    generator = np.random.default_rng(19)
    scores = 2 * generator.normal(size=(300, 4))
    truth = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    labels = np.where(generator.random(300) < 0.1, generator.integers(0, 4, 300), truth)
    joint = [[42, 5, 8, 5], [9, 38, 6, 8], [9, 6, 46, 6], [3, 5, 5, 39]]
    assert confident_joint(scores, labels).tolist() == joint
    found = find_label_errors(scores, labels)
    assert found.places[:8].tolist() == [211, 210, 181, 83, 143, 62, 159, 98]
    assert len(found.places) == 75


def test_a_model_unsure_of_one_label_throughout_accuses_nobody_of_it() -> None:
    p = np.array([[0.55, 0.45]] * 20 + [[0.5, 0.5]] * 5 + [[0.52, 0.48]] * 10)
    labels = np.array([0] * 25 + [1] * 10)
    assert find_label_errors(np.log(p), labels).places.size == 0


def test_scores_far_out_are_suspects_and_a_step_off_is_not() -> None:
    values = np.arange(11)
    generator = np.random.default_rng(0)
    centre = generator.uniform(3, 7, 200)
    logs = -0.5 * np.square((values - centre[:, None]) / 0.8)
    labels = np.round(centre).astype(np.int64)
    labels[:3] = np.where(centre[:3] > 5, 0, 10)
    labels[3:6] += 1
    found = find_score_errors(logs, labels)
    assert sorted(found.places.tolist()) == [0, 1, 2]
    assert found.joint is None
    assert (np.abs(found.suggested - centre[found.places]) < 1).all()


def test_scores_drawn_from_the_model_give_few_suspects() -> None:
    generator = np.random.default_rng(1)
    logs = generator.normal(size=(2000, 11))
    labels = (logs + generator.gumbel(size=logs.shape)).argmax(axis=1)
    assert len(find_score_errors(logs, labels).places) <= 5


@settings(max_examples=50)
@given(scores_and_truth(min_rows=0))
def test_any_rows_can_be_looked_at(rows: tuple[FloatArray, IntArray]) -> None:
    scores, labels = rows
    found = find_label_errors(scores, labels)
    assert found.joint is not None
    assert found.joint.sum() == pytest.approx(1.0 if len(labels) else 0.0)
    assert 0 <= found.share <= 1
    turned = find_label_errors(scores[::-1], labels[::-1])
    assert set(len(labels) - 1 - turned.places) == set(found.places)
    for places in (found.places, find_score_errors(scores, labels).places):
        assert len(set(places.tolist())) == len(places) <= len(labels)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        find_label_errors(np.zeros((2, 2)), [0, 2])
    with pytest.raises(ValueError, match="share"):
        find_score_errors(np.zeros((2, 2)), [0, 1], false_share=1.0)
