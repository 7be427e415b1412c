from bankllm.util.sampling import subset


def test_a_subset_is_spread_over_the_test_set() -> None:
    assert subset(range(10), 4) == [0, 2, 5, 7]
    assert subset(range(3), 4) == subset(range(3), None) == [0, 1, 2]
