"""The résumé block contains bound numbers, and no sentence about a missing measurement."""

import re
from pathlib import Path

from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.format import format_part
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from tests.support.sealed_run import fill


def sections(folder: Path) -> dict[str, str]:
    render(folder)
    return dict(re.findall(r"^## ([^\n]+)\n\n(.*?)\n(?=\n##|\Z)", (folder / "RESUME.md").read_text(), re.M | re.S))


def test_all_lengths_have_the_same_numbers_and_a_missing_one_is_listed(run: Run) -> None:
    fill(run)
    found = sections(run.folder)
    by_id = {record.id: record for record in read_records(run.folder)}
    for name in ("One line", "Three bullets", "A paragraph", "LaTeX"):
        tokens = list(find_tokens(found[name]))
        assert {"training.lora_r8.accuracy", "chat.sequential.p95_ms"} <= {token.id for token in tokens}, name
        assert all(token.text == format_part(by_id[token.id], token.part) for token in tokens)
    bullets = found["Three bullets"].splitlines()
    assert len(bullets) == 1 + 1
    assert bullets[0].startswith("- Model: fine-tuned all-MiniLM-L6-v2 (LoRA r=8) to <!-- claim: ")
    assert r"\claim{training.lora\_r8.accuracy}{93.0 \%} test accuracy on banking77 (95 \% interval" in found["LaTeX"]
    assert found["A paragraph"].startswith("Fine-tuned all-MiniLM-L6-v2")
    assert found["A paragraph"].endswith("one command recomputes every number from its raw rows.")
    assert "not measured" not in found["A paragraph"]
    assert "Memory" not in found["Three bullets"]
    for id in ("load.locust.p95_ms", "vectors.indexed", "vectors.articles.hybrid.ndcg"):
        assert f"`{id}`" in found["Omitted"]
