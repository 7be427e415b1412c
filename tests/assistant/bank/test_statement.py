"""Periods in words."""

import pytest

from bankllm.assistant.bank.statement import listed_period, period


@pytest.mark.parametrize(
    ("first", "last", "words", "listed"),
    [
        (None, None, "", ""),
        ("2026-10-01", "2026-10-31", " in October 2026 (1 to 31 October)", ", 1 October 2026 to 31 October 2026"),
        ("2024-02-01", "2024-02-29", " in February 2024 (1 to 29 February)", ", 1 February 2024 to 29 February 2024"),
        ("2026-10-03", "2026-10-09", " from 3 to 9 October 2026", ", 3 October 2026 to 9 October 2026"),
        ("2026-10-03", "2026-10-03", " on 3 October 2026", ", 3 October 2026"),
        ("2026-01-01", "2026-12-31", " in 2026 (1 January to 31 December)", ", 1 January 2026 to 31 December 2026"),
        ("2026-08-01", "2026-10-31", " from 1 August to 31 October 2026", ", 1 August 2026 to 31 October 2026"),
        (
            "2025-12-20",
            "2026-01-05",
            " from 20 December 2025 to 5 January 2026",
            ", 20 December 2025 to 5 January 2026",
        ),
        ("2026-05-01", None, " since 1 May 2026", ", since 1 May 2026"),
        (None, "2026-05-01", " until 1 May 2026", ", until 1 May 2026"),
    ],
)
def test_period(first: str | None, last: str | None, words: str, listed: str) -> None:
    assert (period(first, last), listed_period(first, last)) == (words, listed)
