"""Folded tables, and findings that are bound to records."""

import pandas as pd

from bankllm.evidence.run import Run
from bankllm.lab.tables import findings, folded


def test_a_finding_is_bound_to_its_record_and_shows_no_invalid_value(run: Run) -> None:
    run.write_rows("rows", [{"ms": 12.5}])
    run.measure("chat.ms", "single", "rows", title="t", unit="ms", column="ms")
    run.measure("chat.bad", "single", "rows", title="t", unit="ms", column="ms", invalid_because="too busy")
    shown = findings(run, "It took {chat.ms}.", "Then {chat.bad}, and {chat.other}.").data
    assert shown.splitlines() == [
        "1. It took **<!-- claim: chat.ms -->12.5 ms<!-- /claim -->**.",
        "2. Then (invalid), and (not measured).",
    ]


def test_a_folded_table_is_complete() -> None:
    shown = folded("200 rows", pd.DataFrame({"x": range(200)})).data
    assert shown.startswith("<details><summary>200 rows</summary><table")
    assert shown.count("<tr") == 201
