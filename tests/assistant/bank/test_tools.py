import json

import jsonschema
import pytest

from bankllm.assistant.bank import tools
from bankllm.datasets import tellerchat
from bankllm.errors import UsageError


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_packaged_calls_are_valid_copies(split: str) -> None:
    validator = jsonschema.Draft202012Validator(tools.calls_schema())
    for example in tellerchat.load(tellerchat.Understand, split):
        output = json.dumps(example.calls)
        assert validator.is_valid(json.loads(output))
        assert tools.parse_calls(output, example.messages) == (example.calls, ())


def test_the_schema_names_required_arguments_and_values() -> None:
    schemas = tools.call_schemas()
    assert schemas["report_card"]["required"] == ["tool", "kind"]
    assert schemas["report_card"]["properties"]["kind"]["enum"] == ["lost", "stolen"]
    assert set(schemas["transfer"]["properties"]) == {"tool", "amount", "to", "from", "date", "reference"}
    assert tools.copied_arguments("spending") == {"merchant", "category", "period", "account"}
    assert not [name for name in schemas if "confirm" in name]


def test_a_model_cannot_write_a_call_on_which_it_was_not_trained() -> None:
    validator = jsonschema.Draft202012Validator(tools.calls_schema())
    assert validator.is_valid([{"tool": "balance"}])
    assert not validator.is_valid([{"tool": "payees"}])
    assert tools.checked_call({"tool": "payees"}) == {"tool": "payees"}


def test_a_value_that_is_no_copy_is_dropped() -> None:
    output = '[{"tool": "transfer", "amount": "£50", "to": "mum", "from": "savings"}]'
    found = tools.parse_calls(output, ["send 50 to mum", "make that  £50"])
    assert found == (({"tool": "transfer", "amount": "£50", "to": "mum"},), ("transfer.from",))


def test_a_copy_may_span_a_line_break() -> None:
    output = '[{"tool": "spending", "merchant": "Marks and Spencer"}]'
    assert tools.parse_calls(output, ["spent at Marks\n and Spencer"]).dropped == ()


def test_a_call_without_a_required_copy_is_dropped() -> None:
    output = '[{"tool": "knowledge", "question": "what is an IBAN"}, {"tool": "balance"}]'
    assert tools.parse_calls(output, ["hello"]) == (({"tool": "balance"},), ("knowledge.question",))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "JSON array"),
        ("[{", "JSON array"),
        ('{"tool": "balance"}', "got dict"),
        ("[1]", "one of balance"),
        ('[{"tool": "confirm"}]', "one of balance"),
        ('[{"tool": ["balance"]}]', "one of balance"),
        ('[{"tool": "balance", "amount": "5"}]', "balance.amount"),
        ('[{"tool": "report_card", "kind": "burnt"}]', "report_card.kind"),
        ('[{"tool": "report_card"}]', "report_card.kind"),
        ('[{"tool": "transfer", "amount": 5}]', "transfer.amount"),
        (json.dumps([{"tool": "balance"}] * 6), "got 6 calls"),
    ],
)
def test_an_invalid_output_is_refused(output: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        tools.parse_calls(output, ["5 pounds"])
