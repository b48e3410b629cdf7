from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from benchmarks._answers import answers
from calibration import Head, LabelsHead, correct_label_bias, cross_fit_head, fit_head, log_loss, log_softmax
from calibration.head_evidence import evidence, fair_folds
from calibration.head_fitting import Scale, fit_path, score
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import scores_and_truth

Example = tuple[FloatArray, IntArray, FloatArray, FloatArray]  # base, truth, voices, embeddings

few = settings(max_examples=10, deadline=None)


@st.composite
def examples(draw: st.DrawFn, min_rows: int = 0) -> Example:
    """A few rows with any scores, texts that repeat, and voices and embeddings that are not known everywhere."""
    base, truth = draw(scores_and_truth(min_rows=min_rows, max_rows=8))
    n, k = base.shape
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    voices = 3 * generator.normal(size=(n, draw(st.integers(0, 2)), k))
    voices[generator.random(voices.shape[:2]) < 0.2] = np.nan
    texts = generator.normal(size=(1 + n // 2, draw(st.integers(0, 3))))
    embeddings = texts[generator.integers(0, len(texts), n)]
    embeddings[generator.random(n) < 0.2] = np.nan
    return base, truth, voices, embeddings


def material(n: int, k: int = 3, seed: int = 0) -> Example:
    """A base that knows a little, two voices of which the second knows more, and embeddings that know some."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, k, n)
    right = np.eye(k)[truth]
    voices = np.stack(
        [log_softmax(strength * right + generator.normal(size=(n, k))) for strength in (0.3, 1.5)], axis=1
    )
    embeddings = right @ generator.normal(size=(k, 8)) + 2 * generator.normal(size=(n, 8))
    return log_softmax(voices.mean(axis=1)), truth, voices, embeddings


def fit(example: Example) -> Head:
    base, truth, voices, embeddings = example
    return fit_head(base, truth, voices=voices, embeddings=embeddings)


def rows_of(example: Example, rows: np.ndarray) -> Example:
    base, truth, voices, embeddings = example
    return base[rows], truth[rows], voices[rows], embeddings[rows]


def accuracy(logprobs: FloatArray, truth: IntArray) -> float:
    return float((logprobs.argmax(axis=1) == truth).mean())


# -- laws ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(examples())
def test_without_labels_the_head_is_the_base(example: Example) -> None:
    base, _, voices, embeddings = example
    head = fit(rows_of(example, np.arange(0)))
    assert head.is_base
    assert np.array_equal(head.apply(base, voices), log_softmax(base))
    assert np.array_equal(head.apply(base, voices, embeddings), log_softmax(base))


@few
@given(examples())
def test_rows_stay_distributions(example: Example) -> None:
    base, _, voices, embeddings = example
    applied = fit(example).apply(base, voices, embeddings)
    assert applied.shape == base.shape
    assert np.exp(applied).sum(axis=1) == pytest.approx(np.ones(len(base)))


@few
@given(examples(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(example: Example, random: Random) -> None:
    order = list(range(len(example[1])))
    random.shuffle(order)
    shuffled = rows_of(example, np.array(order, dtype=np.int64))
    assert fit(example) == fit(shuffled)
    base, truth, voices, embeddings = example
    one = cross_fit_head(base, truth, voices=voices, embeddings=embeddings)
    other = cross_fit_head(shuffled[0], shuffled[1], voices=shuffled[2], embeddings=shuffled[3])
    # What is applied to fewer or to other rows at once may differ in its last digit.
    assert other == pytest.approx(one[order], abs=1e-12)


@few
@given(examples())
def test_json_is_exact(example: Example) -> None:
    head = fit(example)
    assert Head.from_json(head.to_json()) == head


@few
@given(examples(min_rows=1), st.integers(2, 5))
def test_a_row_out_of_fold_is_judged_by_a_head_of_the_others(example: Example, folds: int) -> None:
    base, truth, voices, embeddings = example
    result = cross_fit_head(base, truth, voices=voices, embeddings=embeddings, folds=folds)
    fold = fair_folds(evidence(base, voices, embeddings), truth, folds)
    for number in np.unique(fold):
        mine = rows_of(example, fold == number)
        judged = fit(rows_of(example, fold != number)).apply(mine[0], mine[2], mine[3])
        assert np.array_equal(result[fold == number], judged)


@settings(max_examples=30, deadline=None)
@given(examples(min_rows=1), st.integers(2, 5))
def test_a_text_is_in_one_fold_however_often_it_occurs(example: Example, folds: int) -> None:
    base, truth, voices, embeddings = example
    fold = fair_folds(evidence(base, voices, embeddings), truth, folds)
    found: dict[bytes, int] = {}
    for row, vector in enumerate(embeddings):
        if vector.size and not np.isnan(vector).any():
            assert found.setdefault(vector.tobytes(), int(fold[row])) == fold[row]


def test_every_fold_has_its_share_of_every_label() -> None:
    base, truth, voices, embeddings = material(60)
    fold = fair_folds(evidence(base, voices, embeddings), truth, 5)
    for label in range(3):
        shares = np.bincount(fold[truth == label], minlength=5)
        assert shares.max() - shares.min() <= 1


# -- what is learned ----------------------------------------------------------------------------------------------


def test_the_fit_is_that_of_scikit_learn() -> None:
    _, truth, _, embeddings = material(80)
    seen = evidence(np.zeros((80, 3)), embeddings=embeddings)
    scale = Scale.of(seen)
    weights = fit_path(scale, seen, truth, [(0.0, 1.0)], 1e-15)[0]
    # A base that says nothing leaves logistic regression with all weights, offsets too, of prior deviation one.
    columns = np.delete(scale.columns(seen), [1, 2, 3], axis=1)
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(columns, truth)
    ours = log_softmax(score(scale, seen, weights))
    assert ours == pytest.approx(reference.predict_log_proba(columns), abs=1e-5)


@pytest.mark.parametrize("labels", [30, 100])
def test_labels_make_it_better_than_base_voices_and_student(labels: int) -> None:
    example = material(labels + 1000)
    base, truth, voices, embeddings = rows_of(example, np.arange(labels, labels + 1000))
    drawn = rows_of(example, np.arange(labels))
    said = fit(drawn).apply(base, voices, embeddings)
    student = LogisticRegression(C=0.1).fit(drawn[3], drawn[1]).predict_log_proba(embeddings)
    best = min(log_loss(other, truth) for other in (base, voices[:, 0], voices[:, 1], student))
    assert log_loss(said, truth) < best


def test_embeddings_that_mean_nothing_do_no_harm() -> None:
    base, truth, voices, _ = material(1030)
    noise = np.random.default_rng(1).normal(size=(1030, 256))
    with_noise = fit_head(base[:30], truth[:30], voices=voices[:30], embeddings=noise[:30])
    without = fit_head(base[:30], truth[:30], voices=voices[:30])
    loss = log_loss(with_noise.apply(base[30:], voices[30:], noise[30:]), truth[30:])
    assert loss < log_loss(base[30:], truth[30:])
    assert loss < log_loss(without.apply(base[30:], voices[30:]), truth[30:]) + 0.03


def test_a_base_that_is_right_stays_right() -> None:
    generator = np.random.default_rng(3)
    honest = 2 * generator.normal(size=(1040, 4))
    truth = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
    embeddings = generator.normal(size=(1040, 64))
    for labels in (5, 40):
        head = fit_head(honest[:labels], truth[:labels], embeddings=embeddings[:labels])
        loss = log_loss(head.apply(honest[40:], None, embeddings[40:]), truth[40:])
        assert loss < log_loss(honest[40:], truth[40:]) + 0.08


def test_a_label_said_for_another_is_put_right() -> None:
    _, truth, _, _ = material(400)
    swapped = np.array([1, 0, 2])[truth]
    base = log_softmax(2 * np.eye(3)[swapped] + np.random.default_rng(5).normal(size=(400, 3)))
    head = fit_head(base[:60], truth[:60])
    assert accuracy(base[60:], truth[60:]) < 0.4
    assert accuracy(head.apply(base[60:]), truth[60:]) > 0.8


def test_answers_of_a_real_model_are_put_right() -> None:
    kept = answers("smollm2", "trec_questions")
    base = correct_label_bias(kept.mean)
    voices = np.stack([correct_label_bias(kept.logprobs[:, place]) for place in range(3)], axis=1)
    head = fit_head(base[:100], kept.gold[:100], voices=voices[:100])
    said = head.apply(base[100:], voices[100:])
    assert accuracy(base[100:], kept.gold[100:]) < 0.2
    assert accuracy(said, kept.gold[100:]) > 0.5
    # It says how sure it is: on average neither surer nor less sure than right.
    assert np.exp(said.max(axis=1)).mean() == pytest.approx(accuracy(said, kept.gold[100:]), abs=0.1)


# -- edges --------------------------------------------------------------------------------------------------------


def test_a_label_nobody_gave_stays_possible() -> None:
    base, truth, voices, embeddings = material(60, k=4)
    known = truth != 3
    head = fit(rows_of((base, truth, voices, embeddings), known))
    said = np.exp(head.apply(base, voices, embeddings))
    assert (said[:, 3] > 1e-6).all()
    assert said[~known, 3].mean() > said[known, 3].mean()


def test_a_single_label_says_only_that_it_is_frequent() -> None:
    base, truth, voices, embeddings = material(60)
    only = rows_of((base, truth, voices, embeddings), np.flatnonzero(truth == 0)[:15])
    said = np.exp(fit(only).apply(base, voices, embeddings))
    assert said[:, 0].mean() > np.exp(base[:, 0]).mean()
    assert (said > 1e-4).all()


def test_a_label_the_base_holds_for_impossible_can_be_learned() -> None:
    base = np.tile([0.0, -np.inf], (40, 1))
    embeddings = np.random.default_rng(0).normal(size=(40, 4))
    truth = (embeddings[:, 0] > 0).astype(np.int64)
    head = fit_head(base, truth, embeddings=embeddings)
    assert log_loss(head.apply(base, None, embeddings), truth) < 3.0


def test_one_text_however_often_teaches_nothing() -> None:
    base, _, _, _ = material(1)
    head = fit_head(np.tile(base, (10, 1)), [0] * 10, embeddings=np.ones((10, 4)))
    assert head.is_base


def test_what_is_not_known_says_nothing() -> None:
    base, truth, voices, embeddings = material(60)
    head = fit((base, truth, voices, embeddings))
    nothing = head.apply(base, np.full_like(voices, np.nan), np.full_like(embeddings, np.nan))
    assert np.array_equal(head.apply(base), nothing)
    assert np.array_equal(head.apply(base, voices), head.apply(base, voices, np.tile(head.centre, (60, 1))))


def test_without_embeddings_those_given_later_are_not_looked_at() -> None:
    base, truth, voices, embeddings = material(30)
    head = fit_head(base, truth, voices=voices)
    assert np.array_equal(head.apply(base, voices, embeddings), head.apply(base, voices))


def test_forty_labels() -> None:
    base, truth, voices, embeddings = material(200, k=40)
    drawn = rows_of((base, truth, voices, embeddings), np.arange(60))
    said = fit(drawn).apply(base[60:], voices[60:], embeddings[60:])
    assert log_loss(said, truth[60:]) < log_loss(base[60:], truth[60:])


def test_wrong_shapes() -> None:
    base, truth, voices, embeddings = material(10)
    with pytest.raises(ValueError, match="voices"):
        fit_head(base, truth, voices=voices[:5])
    with pytest.raises(ValueError, match="embeddings"):
        fit_head(base, truth, embeddings=embeddings[:5])
    with pytest.raises(ValueError, match="finite"):
        fit_head(base, truth, embeddings=np.full((10, 2), np.inf))
    with pytest.raises(ValueError, match="truth"):
        fit_head(base, truth[:5])
    with pytest.raises(ValueError, match="label indices"):
        fit_head(base, truth + 3)
    with pytest.raises(ValueError, match="two folds"):
        cross_fit_head(base, truth, folds=1)
    head = fit((base, truth, voices, embeddings))
    with pytest.raises(ValueError, match="fitted on"):
        head.apply(base, voices[:, :1], embeddings)
    with pytest.raises(ValueError, match="fitted on"):
        head.apply(base, voices, embeddings[:, :3])
    with pytest.raises(ValueError, match="fitted on"):
        head.apply(base[:, :2], voices[:, :, :2], embeddings)


def test_documents_that_are_no_head() -> None:
    head = fit(material(10))
    data = json.loads(head.to_json())
    with pytest.raises(ValueError, match="belong together"):
        Head.from_json(json.dumps(data | {"confusion": []}))
    with pytest.raises(ValueError, match="belong together"):
        Head.from_json(json.dumps(data | {"offsets": []}))
    with pytest.raises(ValueError, match="each label"):
        Head.from_json(json.dumps(data | {"likeness": [[1.0]] * 8}))
    with pytest.raises(ValueError, match="no document"):
        Head.from_json(json.dumps(data | {"method": "vector"}))


# -- any number of labels -----------------------------------------------------------------------------------------


def several(n: int, k: int = 3) -> Example:
    """Log-odds that know a little, but nothing of the last label: its text does, and so does the first label."""
    generator = np.random.default_rng(0)
    truth = (generator.random((n, k)) < 0.4).astype(np.int64)
    truth[:, -1] = np.where(generator.random(n) < 0.9, truth[:, 0], truth[:, -1])
    base = 2.0 * (2 * truth - 1) + 2 * generator.normal(size=(n, k))
    base[:, -1] = generator.normal(size=n)
    voices = base[:, None, :] + generator.normal(size=(n, 2, k))
    embeddings = truth @ generator.normal(size=(k, 8)) + generator.normal(size=(n, 8))
    return base, truth, voices, embeddings


def unlikely(odds: FloatArray, truth: IntArray) -> float:
    return float(np.logaddexp(0.0, np.where(truth == 1, -odds, odds)).mean())


def test_any_number_of_labels_may_apply() -> None:
    whole = several(400)
    known, asked = rows_of(whole, np.arange(100)), rows_of(whole, np.arange(100, 400))
    base, truth, voices, embeddings = asked
    head = fit(known)
    assert isinstance(head, LabelsHead)
    assert LabelsHead.from_json(head.to_json()) == head
    odds = head.apply(base, voices, embeddings)
    assert unlikely(odds, truth) < unlikely(base, truth) - 0.1
    last = np.index_exp[:, -1:]
    assert unlikely(odds[last], truth[last]) < 0.6 < unlikely(base[last], truth[last])
    alone = fit_head(known[0], known[1]).apply(base)  # what was said of the first label tells of the last one
    assert unlikely(alone[last], truth[last]) < unlikely(base[last], truth[last]) - 0.1
    with pytest.raises(ValueError, match="of the kind head"):
        Head.from_json(head.to_json())
    with pytest.raises(ValueError, match="which apply"):
        fit_head(base, truth + 1)
    with pytest.raises(ValueError, match="which apply"):
        fit_head(base, truth[:, :2])


def test_with_several_labels_the_order_of_the_rows_changes_nothing() -> None:
    example = several(24)
    order = np.random.default_rng(5).permutation(24)
    assert fit(example) == fit(rows_of(example, order))
    crossed = [
        cross_fit_head(one[0], one[1], voices=one[2], embeddings=one[3])
        for one in (example, rows_of(example, order))
    ]
    assert crossed[1] == pytest.approx(crossed[0][order], abs=1e-12)


def test_without_checked_rows_log_odds_stay() -> None:
    base, truth, voices, embeddings = several(6)
    head = fit_head(base[:0], truth[:0], voices=voices[:0], embeddings=embeddings[:0])
    assert head.is_base
    assert np.array_equal(head.apply(base, voices), base)


def test_noise_about_several_labels_is_not_learned() -> None:
    base, truth, voices, _ = several(40)
    noise = np.random.default_rng(3).normal(size=(40, 30))
    crossed = cross_fit_head(base, truth, voices=voices, embeddings=noise)
    assert unlikely(crossed, truth) < unlikely(base, truth) + 0.05
