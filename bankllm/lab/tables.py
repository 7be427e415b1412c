"""Text that notebooks show: folded tables, and findings whose numbers are bound to records."""

import re

import pandas as pd
from IPython.display import HTML, Markdown

from bankllm.evidence.claim_syntax import markdown
from bankllm.evidence.format import format_value
from bankllm.evidence.records import read_records
from bankllm.evidence.run import Run


def folded(summary: str, table: pd.DataFrame) -> HTML:
    """Return a table of which only `summary` is visible until the reader opens it."""
    return HTML(f"<details><summary>{summary}</summary>{table.to_html(index=False, max_rows=None)}</details>")


def findings(run: Run, *sentences: str) -> Markdown:
    """Return a list of sentences. Each `{record id}` becomes the value of the record, bound to it as a claim."""
    records = {record.id: record for record in read_records(run.folder)}

    def value(name: re.Match[str]) -> str:
        record = records.get(name[1])
        if record is None or record.value is None:
            return f"({format_value(record) if record else 'not measured'})"
        return f"**{markdown(record.id, format_value(record))}**" if record.valid else "(invalid)"

    return Markdown("\n".join(f"{n}. {re.sub(r'{([^}]+)}', value, text)}" for n, text in enumerate(sentences, start=1)))
