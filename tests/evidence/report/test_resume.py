"""The résumé block contains bound numbers, and no sentence about a missing measurement."""

from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.format import format_part
from bankllm.evidence.records import read_records
from bankllm.evidence.report.resume import write_resume
from bankllm.evidence.run import Run
from tests.support.sealed_run import fill


def test_all_three_lengths_and_latex_have_the_same_numbers(run: Run) -> None:
    fill(run)
    records = read_records(run.folder)
    resume = write_resume(records, "2 cores", "quick")
    by_id = {record.id: record for record in records}
    for text in (resume.line, "\n".join(resume.bullets), resume.paragraph, resume.latex):
        tokens = list(find_tokens(text))
        assert {"training.lora_r8.accuracy", "chat.sequential.p95_ms"} <= {token.id for token in tokens}
        assert all(token.text == format_part(by_id[token.id], token.part) for token in tokens)
    assert len(resume.bullets) == 1 + 1
    assert resume.bullets[0].startswith("Model: fine-tuned all-MiniLM-L6-v2 (LoRA r=8) to <!-- claim: ")
    assert r"\claim{training.lora_r8.accuracy}{93.0 \%} test accuracy on banking77 (95 \% interval" in resume.latex
    assert resume.paragraph.endswith("one command recomputes every number from its raw rows.")


def test_a_missing_measurement_has_no_sentence_and_is_listed(run: Run) -> None:
    fill(run)
    resume = write_resume(read_records(run.folder), "2 cores", "quick")
    assert "not measured" not in resume.paragraph
    assert "Memory" not in "".join(resume.bullets)
    assert {"load.locust.p95_ms", "vectors.indexed", "vectors.recall"} <= set(resume.left_out)


def test_a_run_without_measurements_gives_an_empty_block(run: Run) -> None:
    run.folder.mkdir(parents=True)
    run.not_measured("chat.sequential.p50_ms", title="Chat", unit="ms", why="no server")
    resume = write_resume(read_records(run.folder), "2 cores", "quick")
    assert (resume.line, resume.bullets, resume.latex) == ("", (), "")
