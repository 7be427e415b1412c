"""Each engine generates, obeys a JSON Schema, and can be cancelled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bankllm.assistant.bank.tools import calls_schema, parse_calls
from bankllm.errors import ModelError, UsageError
from bankllm.model import generation, smollm2
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.model.generation.json_grammar import json_grammar
from bankllm.settings import Settings

pytest.importorskip("openvino_genai")
pytest.importorskip("llguidance")
if smollm2.gguf_file() is None:
    pytest.skip(f"SmolLM2 is not installed: {smollm2.INSTALL}", allow_module_level=True)
pytestmark = pytest.mark.slow
CHAT = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module", params=["openvino", "transformers"])
def engine(request: pytest.FixtureRequest) -> Iterator[GenerationEngine]:
    opened = generation.load(engine=request.param)
    yield opened
    opened.close()


def test_texts_come_in_pieces_and_in_the_order_of_the_requests(engine: GenerationEngine) -> None:
    short, constrained = engine.generate([GenerationRequest(CHAT, 4), GenerationRequest(CHAT, 40, calls_schema())])
    pieces = list(short)
    assert pieces
    assert (len(short.token_ids), short.finish) == (4, "length")
    parse_calls(constrained.text(), [CHAT[0]["content"]])
    assert constrained.finish == "end"


def test_sixteen_constrained_requests_at_once_obey_the_schema(engine: GenerationEngine) -> None:
    chats = [[{"role": "user", "content": f"Please pay Tom {amount} pounds."}] for amount in range(16)]
    for stream in engine.generate([GenerationRequest(chat, 10, calls_schema()) for chat in chats]):
        text = stream.text()
        assert text.startswith('[{"tool":"') or text == "[]"


def test_a_cancelled_text_ends(engine: GenerationEngine) -> None:
    stream = engine.generate([GenerationRequest(CHAT, 400)])[0]
    stream.cancel()
    stream.text()
    assert stream.finish == "cancelled"
    assert len(stream.token_ids) < 400


def test_a_request_that_does_not_fit_is_refused(engine: GenerationEngine) -> None:
    with pytest.raises(UsageError, match="more than the 8192 tokens of the model's context"):
        engine.generate([GenerationRequest(CHAT, 8192)])
    with pytest.raises(UsageError, match="max_tokens of at least 1, got 0"):
        engine.generate([GenerationRequest(CHAT, 0)])


def test_an_unknown_engine_and_a_folder_without_adapter_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Expected the engine openvino or transformers, got 'other'"):
        generation.load(engine="other")
    with pytest.raises(ModelError, match=r"The adapter .* cannot be loaded on SmolLM2.*adapter_config.json is missing"):
        generation.load(adapter=tmp_path, engine="transformers", settings=Settings())


def test_a_schema_that_cannot_be_compact_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Expected a schema of objects.*got .\"type\": \"number\""):
        json_grammar({"type": "number"})
