"""Outputs of a language model are compared with what is expected."""

import json
from pathlib import Path

import pytest

from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.evidence.verification.verify import verify
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.adapter_folder import add_outputs
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.task_scores import by_phenomenon, understand_rows, word_rows
from bankllm.training.language_model.token_rows import task_of

PAY = Understand(
    messages=("pay Tom £5 and Ann £6",),
    calls=({"tool": "transfer", "amount": "£5", "to": "Tom"}, {"tool": "transfer", "amount": "£6", "to": "Ann"}),
    phenomena=("two_wishes", "names"),
)


def test_the_order_of_calls_and_arguments_is_free() -> None:
    other = '[{"tool":"transfer","to":"Ann","amount":"£6"},{"tool":"transfer","to":"Tom","amount":"£5"}]'
    (row,) = understand_rows([PAY], [other])
    assert row["actual"] == row["predicted"]
    assert [row["phenomenon"] for row in by_phenomenon([row])] == ["two_wishes", "names"]


@pytest.mark.parametrize(
    ("output", "valid", "copies", "tools", "arguments"),
    [
        ("[{", "no", "yes", (0, 0, 2), (0, 0, 4)),
        ('[{"tool":"dance"}]', "no", "yes", (0, 0, 2), (0, 0, 4)),
        ("[]", "yes", "yes", (0, 0, 2), (0, 0, 4)),
        ('[{"tool":"transfer","amount":"£50","to":"Tom"}]', "yes", "no", (1, 1, 2), (1, 1, 4)),
        ('[{"tool":"balance"},{"tool":"transfer","to":"Ann"}]', "yes", "yes", (1, 2, 2), (1, 1, 4)),
    ],
)
def test_a_wrong_output_is_counted(output, valid, copies, tools, arguments) -> None:
    (row,) = understand_rows([PAY], [output])
    assert (row["valid"], row["copies"]) == (valid, copies)
    assert row["actual"] != row["predicted"]
    parts = ("right", "predicted", "expected")
    assert tuple(row[f"tools_{part}"] for part in parts) == tools
    assert tuple(row[f"arguments_{part}"] for part in parts) == arguments


@pytest.mark.parametrize(
    ("reply", "grounded", "complete"),
    [
        ("You spent £12.50 in October 2026.", "yes", "yes"),
        ("You spent £12.51 in October 2026.", "no", "no"),
        ("You spent 12.50.", "no", "no"),
        ("£12.50, which is £2.50 more than in september.", "no", "yes"),
        ("In 3 payments.", "yes", "no"),
    ],
)
def test_a_reply_states_the_facts_and_nothing_else(reply, grounded, complete) -> None:
    fact = "Spent at Costa, 1 October 2026 to 31 October 2026: -£12.50 in 3 payments"
    (row,) = word_rows([Word(message="costa?", facts=(fact,), reply="…", required=("£12.50",))], [reply])
    assert (row["grounded"], row["complete"]) == (grounded, complete)


def test_the_packaged_replies_are_grounded_complete_and_right() -> None:
    """Otherwise the metrics would punish a model that learnt them. A few name a month in other words."""
    words = [*load(Word, "train"), *load(Word, "test")]
    rows = word_rows(words, [example.reply for example in words])
    assert sum(row["grounded"] == "no" for row in rows) <= 0.01 * len(rows)
    assert all(row["complete"] == "yes" for row in rows)
    test = load(Understand, "test")
    assert all(row["actual"] == row["predicted"] for row in understand_rows(test, [task_of(e)[1] for e in test]))


def test_the_outputs_become_records_of_the_artifact(tiny_base: Path, examples, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    fine_tune(LanguageModelConfig(base_model=str(tiny_base), max_steps=1), examples, folder, progress=False)
    words = [example for example in examples if isinstance(example, Word)]
    rows = {"understand_free": understand_rows([PAY], ["[]"]), "word": word_rows(words, [words[0].reply])}
    records = {record.id: record for record in add_outputs(folder, rows)}
    assert records["understand_free_exact"].value == 0
    assert records["word_grounded"].value == records["word_complete"].value == 1
    assert "understand_free: exactly right calls" in (folder / "README.md").read_text()
    assert json.loads((folder / "records.jsonl").read_text().splitlines()[-1])["id"] == "word_length"
    verdict = verify(folder)
    assert verdict.holds, verdict.summary()
