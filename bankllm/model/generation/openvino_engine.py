"""Generation in OpenVINO GenAI on a CPU: requests join and leave the batch between two tokens.

OpenVINO rounds the offsets of the package's 4-bit weights: none of 8 greedy texts was that of torch. So it gets the
converted weights, with the adapter merged into them, as a GGUF file in 16 bits, and computes in fp32: all 8 were equal.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from bankllm.errors import ModelError
from bankllm.model import base_models
from bankllm.model.generation.json_grammar import json_grammar
from bankllm.model.generation.merged_weights import cached_gguf
from bankllm.model.generation.streams import Finish, GenerationRequest, TextStream, failure, prompt_ids
from bankllm.settings import Settings

PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
"""The same texts as torch. By default OpenVINO rounds activations to 8 bits and the cache of keys and values, too."""
MAX_STREAMS = 64
"""Requests in a batch; further ones wait."""
MAX_BATCH_TOKENS = 1024
"""Tokens per step; a longer prompt is read in several steps."""


class ChatTokenizer:
    """The tokenizer and chat template of a folder that bankllm has written, such as that of the converted SmolLM2.

    They work as those of transformers, whose import takes 270 MiB.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self.backend_tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.eos_token_id = self.backend_tokenizer.token_to_id(config["eos_token"])
        self.model_max_length = config["model_max_length"]
        self._template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)

    def apply_chat_template(self, chat: Sequence[Mapping[str, str]], **options: Any) -> list[int]:
        text = self._template.render(messages=chat, **options)
        return list(self.backend_tokenizer.encode(text, add_special_tokens=False).ids)


class OpenVinoEngine:
    def __init__(
        self,
        base: base_models.BaseModel,
        adapter: Path | None,
        settings: Settings,
        weights: str = "F16",
        properties: dict[str, Any] | None = None,
        file: Path | None = None,
    ) -> None:
        """Load the model, from a GGUF file that was exported if there is one.

        `weights`: the type in the GGUF file, see `FILE_TYPES` of `merged_weights`. Raises `ModelError`.
        """
        import openvino_genai

        self.name = f"openvino:{base.name}"
        path = file or cached_gguf(base, adapter, weights, settings)
        self._tokenizer = ChatTokenizer(Path(base_models.ready_to_load(base, settings)))
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs, scheduler.max_num_batched_tokens = MAX_STREAMS, MAX_BATCH_TOKENS
        properties = PROPERTIES if properties is None else properties
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {path} ({str(error).strip().splitlines()[-1][:200]}).") from error
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._running: dict[TextStream, Any] = {}
        self._next, self._closed = 0, False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[TextStream]:
        import openvino

        prompts = [prompt_ids(self._tokenizer, request) for request in requests]
        configs = [self._config(request) for request in requests]
        streams = [TextStream(self._tokenizer, len(ids)) for ids in prompts]
        with self._work:
            if self._closed:
                raise ModelError(f"{self.name} is closed.")
            for stream, ids, config in zip(streams, prompts, configs, strict=True):
                inputs = openvino.Tensor(np.array([ids], np.int64))
                self._running[stream] = self._pipeline.add_request(self._next, inputs, config)
                self._next += 1
            self._work.notify()
        return streams

    def close(self) -> None:
        with self._work:
            self._closed = True
            for stream in self._running:
                stream.cancel()
            self._work.notify()
        self._thread.join()

    def _config(self, request: GenerationRequest) -> Any:
        import openvino_genai

        end = self._tokenizer.eos_token_id
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.logprobs = request.max_tokens, False, 1
        config.eos_token_id, config.stop_token_ids = end, {end}
        if request.schema is not None:
            grammar = json_grammar(request.schema)
            config.structured_output_config = openvino_genai.StructuredOutputConfig(grammar=grammar)
        return config

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._running or self._closed)
                if not self._running:
                    return
                running = dict(self._running)
            try:
                self._pipeline.step()
                for stream, handle in running.items():
                    self._pass_on(stream, handle)
            except (RuntimeError, ValueError) as error:
                with self._work:
                    failed, self._running = self._running, {}
                for stream, handle in failed.items():
                    handle.cancel()
                    stream.put(failure(error, self.name))

    def _pass_on(self, stream: TextStream, handle: Any) -> None:
        """Put new tokens of one request into its stream, and end the stream after the last one."""
        finish: Finish | None = None
        while finish is None and handle.can_read():
            output = next(iter(handle.read().values()))
            if output.generated_ids:
                stream.put(list(zip(output.generated_ids, output.generated_log_probs, strict=True)))
            reason = output.finish_reason.name
            finish = {"STOP": "end", "LENGTH": "length"}.get(reason)  # type: ignore[assignment]
        if finish is None and stream.cancelled.is_set():
            handle.cancel()
            finish = "cancelled"
        if finish is not None:
            with self._work:
                self._running.pop(stream, None)
            stream.put(finish)
