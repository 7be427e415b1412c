"""An exported GGUF file generates what the engine generates, and Ollama gets the prompts of the tokenizer."""

from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.model import base_models, generation, smollm2
from bankllm.model.generation import GenerationRequest
from bankllm.model.generation.merged_weights import export_gguf
from bankllm.model.generation.openvino_engine import OpenVinoEngine
from bankllm.model.generation.streams import chat_tokenizer
from bankllm.settings import Settings

pytest.importorskip("openvino_genai")
if smollm2.gguf_file() is None:
    pytest.skip(f"SmolLM2 is not installed: {smollm2.INSTALL}", allow_module_level=True)
pytestmark = pytest.mark.slow
CHAT = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "Name three colours."}]


def test_gguf_generates_as_the_engine(tmp_path: Path) -> None:
    base, settings = base_models.resolve("smollm2"), Settings()
    export_gguf(base, None, tmp_path / "out", "F16", settings)
    texts = []
    for engine in (OpenVinoEngine(base, None, settings, file=tmp_path / "out" / "model.gguf"), generation.load()):
        texts.append(engine.generate([GenerationRequest(CHAT, 12)])[0].text())
        engine.close()
    assert texts[0] == texts[1] != ""
    template = (tmp_path / "out" / "Modelfile").read_text().split('"""')[1]
    message, rest = template.removeprefix("{{ range .Messages }}").split("{{ end }}")
    prompt = "".join(message.replace("{{ .Role }}", m["role"]).replace("{{ .Content }}", m["content"]) for m in CHAT)
    tokenizer = chat_tokenizer(base.location, base.name)
    assert prompt + rest == tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    with pytest.raises(UsageError, match="Expected one of the types F32, F16, Q4_1, Q8_0, got 'Q2'"):
        export_gguf(base, None, tmp_path / "other", "Q2", settings)
