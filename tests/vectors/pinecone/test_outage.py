"""A Pinecone outage, with the real SDK in separate processes: no row is lost, duplicated or out of order."""

from pathlib import Path

import pytest

from benchmarks import pinecone_outage


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_no_row_is_lost_duplicated_or_reordered_by_an_outage(kill: bool, tmp_path: Path) -> None:
    outcome = pinecone_outage.measure(tmp_path, seconds=3, kill=kill)

    assert outcome.during > 20
    assert (outcome.lost, outcome.doubled, outcome.disordered, outcome.unfound) == (0, 0, 0, 0)
