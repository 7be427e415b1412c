"""Generation in transformers, one request after the other: the reference for other engines, and any causal model."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bankllm.model import base_models
from bankllm.model.denormals import flush_denormals
from bankllm.model.generation.json_grammar import json_grammar
from bankllm.model.generation.merged_weights import merged_model
from bankllm.model.generation.streams import Finish, GenerationRequest, TextStream, chat_tokenizer, failure, prompt_ids
from bankllm.settings import Settings


class TransformersEngine:
    def __init__(self, base: base_models.BaseModel, adapter: Path | None, settings: Settings) -> None:
        """Load the model. Raises `ModelError` if model, tokenizer or adapter cannot be loaded."""
        self.name = f"transformers:{base.name}"
        device = base_models.device(settings)
        self._model: Any = merged_model(base, adapter, settings).to(device, base_models.dtype(device))
        self._tokenizer: Any = chat_tokenizer(base_models.ready_to_load(base, settings), base.name)
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._constraints: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generation")
        self._streams: list[TextStream] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[TextStream]:
        prompts = [prompt_ids(self._tokenizer, request) for request in requests]
        streams = [TextStream(self._tokenizer, len(ids)) for ids in prompts]
        self._streams = [stream for stream in self._streams if stream.finish is None] + streams
        for stream, request, ids in zip(streams, requests, prompts, strict=True):
            self._thread.submit(self._run, stream, request, ids)
        return streams

    def close(self) -> None:
        for stream in self._streams:
            stream.cancel()
        self._thread.shutdown()

    def _run(self, stream: TextStream, request: GenerationRequest, ids: list[int]) -> None:
        try:
            stream.put(self._generate(stream, request, ids))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            stream.put(failure(error, self.name))

    def _generate(self, stream: TextStream, request: GenerationRequest, ids: list[int]) -> Finish:
        """Generate token by token, as `model.generate` does in greedy decoding."""
        import torch

        flush_denormals()
        matcher = self._matcher(request)
        new, cache = torch.tensor([ids], device=self._model.device), None
        for _ in range(request.max_tokens):
            if stream.cancelled.is_set():
                return "cancelled"
            with torch.inference_mode():
                output = self._model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits, cache = output.logits[0, -1].float(), output.past_key_values
            if matcher is not None:
                allowed = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)[: len(logits)]
                logits = logits.masked_fill(allowed.to(logits.device) == 0, -torch.inf)
            token = int(logits.argmax())
            stream.put([(token, float(logits[token] - logits.logsumexp(0)))])
            if token in self._ends:
                return "end"
            if matcher is not None:
                matcher.consume_token(token)
            new = torch.tensor([[token]], device=self._model.device)
        return "length"

    def _matcher(self, request: GenerationRequest) -> Any:
        """The state of the request's constraint, or None."""
        if request.schema is None:
            return None
        import llguidance.hf
        from llguidance.gbnf_to_lark import any_to_lark

        if self._constraints is None:
            self._constraints = llguidance.hf.from_tokenizer(self._tokenizer)
        grammar = any_to_lark(json_grammar(request.schema))
        return llguidance.LLMatcher(self._constraints, llguidance.grammar_from("lark", grammar))
