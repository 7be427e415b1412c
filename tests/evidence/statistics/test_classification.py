"""Statistics of classifiers, each compared with SciPy, scikit-learn, a published table, or a case computed by hand."""

import itertools
import math
import random

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from bankllm.evidence.statistics import classification as s
from bankllm.evidence.statistics.statistic import Estimate
from tests.support.text_rows import text_rows


@pytest.mark.parametrize(("hits", "n"), [(0, 50), (50, 50), (2864, 3080), (7, 9)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    answer = text_rows(predicted=["a"] * n, actual=["a"] * hits + ["b"] * (n - hits))
    estimate = s.accuracy(answer)
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert estimate.value == hits / n
    assert estimate.ci95 == pytest.approx((expected.low, expected.high))


def test_macro_f1_agrees_with_scikit_learn() -> None:
    """Class f is predicted, but is the label of no text."""
    draw = random.Random(3)
    answer = text_rows(actual=draw.choices("abcde", k=200), predicted=draw.choices("abcdef", k=200))
    expected = f1_score([r["actual"] for r in answer], [r["predicted"] for r in answer], average="macro")
    assert s.macro_f1(answer).value == pytest.approx(expected)


def test_micro_f1_agrees_with_scikit_learn_and_a_bootstrap() -> None:
    """A row has up to four items of its own; each item is expected, predicted or both."""
    draw = random.Random(5)
    rows = [[(draw.random() < 0.7, draw.random() < 0.6) for _ in range(draw.randint(1, 4))] for _ in range(300)]
    columns = {
        "right": [sum(a and b for a, b in row) for row in rows],
        "predicted": [sum(b for _, b in row) for row in rows],
        "expected": [sum(a for a, _ in row) for row in rows],
    }
    counted = text_rows(**{name: list(map(str, values)) for name, values in columns.items()})
    names = {name: name for name in columns}
    estimate = s.micro_f1(counted, **names)
    actual, predicted = zip(*(item for row in rows for item in row), strict=True)
    assert estimate.value == pytest.approx(f1_score(actual, predicted))
    resampled = [s.micro_f1(draw.choices(counted, k=300), **names).value for _ in range(400)]
    assert estimate.ci95 == pytest.approx(np.percentile(np.array(resampled, float), [2.5, 97.5]), abs=0.015)
    assert s.micro_f1(counted[:20], **names).ci95 is None


def seeded(*hits: int, of: int = 10) -> list[dict[str, str]]:
    """Per seed, `of` rows, of which the given number is correct."""
    return [
        {"seed": str(seed), "actual": "a", "predicted": "a" if i < correct else "b"}
        for seed, correct in enumerate(hits)
        for i in range(of)
    ]


def test_accuracy_over_seeds_has_students_interval() -> None:
    estimate = s.accuracy_over_seeds(seeded(9, 8, 10))
    expected = stats.ttest_1samp([0.9, 0.8, 1.0], 0).confidence_interval(0.95)
    assert (estimate.value, estimate.n) == (pytest.approx(0.9), 3)
    assert estimate.ci95 == pytest.approx((expected.low, 1.0))  # an accuracy is at most 1
    assert expected.high > 1
    narrow = s.accuracy_over_seeds(seeded(930, 935, 934, of=1000))
    assert narrow.ci95 == pytest.approx(stats.ttest_1samp([0.930, 0.935, 0.934], 0).confidence_interval(0.95))
    assert s.accuracy_sd_over_seeds(seeded(9, 8, 10)).value == pytest.approx(np.std([0.9, 0.8, 1.0], ddof=1))


def test_statistics_over_seeds_explain_a_missing_interval_or_value() -> None:
    assert s.accuracy_over_seeds(seeded(9)) == Estimate(0.9, 1, why_no_ci95="one seed shows no spread")
    one_seed = s.accuracy_sd_over_seeds(seeded(9))
    assert one_seed == Estimate(None, 1, invalid_because="a standard deviation needs 2 seeds, there is 1")
    assert "no spread to judge by" in str(s.accuracy_over_seeds(seeded(9, 9)).why_no_ci95)
    cut_short = seeded(9, 8)[:-3]
    for statistic in (s.accuracy_over_seeds, s.accuracy_sd_over_seeds):
        assert statistic(cut_short).invalid_because == "the seeds answered unlike numbers of texts (7 to 10)"


def paired(both: int, only_a: int, only_b: int, neither: int) -> list[dict[str, str]]:
    kinds = [("x", "x")] * both + [("x", "y")] * only_a + [("y", "x")] * only_b + [("y", "z")] * neither
    return [{"r4": a, "r8": b, "actual": "x"} for a, b in kinds]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (12, 3), (31, 52), (0, 1500), (19_700, 20_300)])
def test_mcnemar_equals_the_exact_binomial_test_of_scipy(only_a: int, only_b: int) -> None:
    """2^40,000, in the last case, is too large for a float."""
    estimate = s.mcnemar(paired(40, only_a, only_b, 7), "r4", "r8")
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert estimate.value == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert estimate.n == 47 + only_a + only_b


def test_accuracy_difference_has_about_95_percent_coverage() -> None:
    """Exact coverage over all outcomes of 60 texts; 8 % are correct only in one classifier, 4 % only in the other."""
    n, gain, loss = 60, 0.08, 0.04
    covered = total = 0.0
    for only_a, only_b in itertools.product(range(20), range(14)):
        chance = stats.multinomial.pmf([only_a, only_b, n - only_a - only_b], n, [gain, loss, 1 - gain - loss])
        estimate = s.accuracy_difference(paired(n - only_a - only_b, only_a, only_b, 0), "r4", "r8")
        assert estimate.ci95 is not None
        assert estimate.value == (only_a - only_b) / n
        assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1]
        total += chance
        covered += chance * (estimate.ci95[0] <= gain - loss <= estimate.ci95[1])
    assert total > 0.9999
    assert 0.93 <= covered <= 0.98


def test_accuracy_difference_of_equal_classifiers_has_an_interval() -> None:
    """No discordant text in 3,080: adding 0.5 to each cell gives the interval 0 ± 1.96/3,082."""
    estimate = s.accuracy_difference(paired(3000, 0, 0, 80), "r4", "r8")
    assert estimate.value == 0
    assert estimate.ci95 == pytest.approx((-1.96 / 3082, 1.96 / 3082), rel=1e-4)


def scored(confidences: list[float], correct: list[bool]) -> list[dict[str, str]]:
    return text_rows(
        confidence=confidences, predicted=["a" if c else "b" for c in correct], actual=["a"] * len(correct)
    )


def test_expected_calibration_error_by_hand_and_by_numpy() -> None:
    """Two bins: (0, ½] contains 0.4 and 0.5 (one correct), (½, 1] contains 0.8 and 1.0 (both correct)."""
    answer = scored([0.4, 0.5, 0.8, 1.0], [True, False, True, True])
    by_hand = 0.5 * abs(0.5 - 0.45) + 0.5 * abs(1 - 0.9)
    assert s.expected_calibration_error(answer, bins=2).value == pytest.approx(by_hand)
    generator = np.random.default_rng(5)
    confidence, correct = generator.uniform(0, 1, 500), generator.uniform(0, 1, 500) < 0.7
    bins = np.digitize(confidence, np.linspace(0, 1, 16), right=True)
    expected = sum(
        (bins == b).mean() * abs(correct[bins == b].mean() - confidence[bins == b].mean()) for b in set(bins)
    )
    estimate = s.expected_calibration_error(scored(confidence.tolist(), correct.tolist()))
    assert estimate.value == pytest.approx(expected)
    assert s.expected_calibration_error(scored([0.0, 0.0], [False, False])).value == 0


def test_aurc_by_hand_and_independent_of_the_order_of_ties() -> None:
    """By descending confidence: correct, wrong, correct, wrong → risks 0, 1/2, 1/3, 1/2."""
    answer = scored([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert s.aurc(answer).value == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    tied = scored([0.9, 0.9, 0.5], [True, False, True])
    assert s.aurc(tied).value == s.aurc(tied[::-1]).value == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    orders = [scored([0.9, 0.8, 0.5], [*first, True]) for first in ((True, False), (False, True))]
    assert s.aurc(tied).value == pytest.approx(np.mean([s.aurc(order).value for order in orders]))


def scopes(inside: list[float], outside: list[float]) -> list[dict[str, str]]:
    kinds = ["yes"] * len(inside) + ["no"] * len(outside)
    return text_rows(confidence=[*inside, *outside], in_scope=kinds)


def test_recall_at_false_rejects_uses_the_highest_allowed_threshold() -> None:
    """5 % of 20 in-scope rows is one row, so the threshold is the second lowest confidence, 0.30."""
    answer = scopes([0.25, 0.30, *[0.9] * 18], [0.1, 0.29, 0.30, 0.5])
    estimate = s.recall_at_false_rejects(answer, 0.05)
    assert (estimate.value, estimate.n) == (0.5, 4)
    assert s.recall_at_false_rejects(answer, 0.0).value == 0.25
    assert s.recall_at_false_rejects(answer, 1.0).value == 1.0
    assert s.recall_at_false_rejects(scopes([0.5] * 100, [0.4]), 0.29).value == 1.0
    assert s.recall_at_false_rejects(scopes(list(np.arange(100) / 100), [0.285]), 0.29).value == 1.0  # 0.29 × 100 < 29


def test_scope_column_can_be_chosen_and_both_kinds_are_required() -> None:
    sets = text_rows(set=["test", "test", "far", "near"], confidence=[0.9, 0.8, 0.1, 0.95])
    options = {"column": "set", "inside": "test"}
    assert s.recall_at_false_rejects(sets, **options, outside="far").value == 1.0
    assert s.auroc(sets, **options, outside="near").value == 0.0
    for statistic in (s.recall_at_false_rejects, s.auroc):
        assert statistic(scopes([0.5], [])) == Estimate(None, 0, invalid_because="no rows with in_scope = no")
        assert statistic(scopes([], [0.5])).invalid_because == "no rows with in_scope = yes"


def test_auroc_agrees_with_scikit_learn_and_its_interval_with_delong() -> None:
    generator = np.random.default_rng(2)
    inside, outside = generator.normal(1, 1, 80).round(1), generator.normal(0, 1, 50).round(1)  # with many ties
    estimate = s.auroc(scopes(inside.tolist(), outside.tolist()))
    truth = [1] * 80 + [0] * 50
    assert estimate.value == pytest.approx(roc_auc_score(truth, [*inside, *outside]))
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    error = math.sqrt(wins.mean(axis=1).var(ddof=1) / 80 + wins.mean(axis=0).var(ddof=1) / 50)
    assert estimate.ci95 == pytest.approx(stats.norm.interval(0.95, loc=wins.mean(), scale=error))
    separated = s.auroc(scopes([0.9, 0.8], [0.1, 0.2]))
    assert (separated.value, separated.why_no_ci95) == (1.0, "the rows leave no spread to judge by")
