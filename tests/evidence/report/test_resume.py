"""The résumé block contains bound numbers, and names what was not measured."""

import re
from pathlib import Path

import pytest

from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.format import format_part
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.profiles import ProfileName
from tests.support.language_records import add_language_records
from tests.support.sealed_run import fill, recorded_run


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
    assert r"\claim{training.lora\_r8.accuracy}{93.0 \%} test accuracy on banking77 (95 \% interval" in found["LaTeX"]
    models, _, memory = found["Three bullets"].splitlines()
    assert models.startswith("- Models: fine-tuned all-MiniLM-L6-v2 (LoRA r=8) to <!-- claim: ")
    assert "understanding of the language model, grounded wording, speed of generation not measured" in models
    assert memory.startswith("- Memory: search, ranking not measured.")
    assert found["A paragraph"].startswith("Fine-tuned all-MiniLM-L6-v2")
    for id in ("load.locust.p95_ms", "vectors.indexed", "language.packaged.understand_exact"):
        assert f"`{id}`" in found["Omitted"]


def test_the_language_model_is_described_in_all_lengths(run: Run) -> None:
    fill(run)
    add_language_records(run.folder)
    found = {name: re.sub(r"<!--.*?-->", "", text) for name, text in sections(run.folder).items()}
    assert "82.0 % exactly right tool calls by SmolLM2-135M-Instruct" in found["One line"]
    for name in ("Three bullets", "A paragraph"):
        assert (
            "tuned SmolLM2-135M-Instruct to turn 82.0 % of 100 messages into exactly the right tool calls "
            "(2.0 % before tuning, 64.0 % by rules), 82.0 % of its replies without an ungrounded figure, "
            "160.0 tokens/s generated"
        ) in found[name]
        assert "the first word of a streamed reply after 369.0 ms (median)" in found[name]
        assert "serving nine of ten chats up to 4.50 requests/s" in found[name]
        assert (
            "at 16/s offered, goodput 4.50 requests/s, 20.0 % of the chats served by the language model and 3.0 % of "
            "the questions answered wrong"
        ) in found[name]
        assert "95.8 % of 24 graded conversations passed" in found[name]
    assert r"\claim{load.model.at\_16.share}{20.0 \%}" in found["LaTeX"]


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_each_sentence_of_a_smoke_run_says_that_it_is_no_result(tmp_path: Path, profile: ProfileName) -> None:
    found = sections(recorded_run(tmp_path / "run", profile=profile))
    lines = [found["One line"], *found["Three bullets"].splitlines(), found["A paragraph"]]
    lines += re.findall(r"\\item .*", found["LaTeX"])
    assert len(lines) == 8
    assert {"no result" in line for line in lines} == {profile == "smoke"}
