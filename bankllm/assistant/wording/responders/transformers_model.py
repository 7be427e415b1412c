"""`transformers:MODEL`: a causal language model in this process, from a Hub id or a folder."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from bankllm.assistant.wording.generating import MAX_NEW_TOKENS, GeneratingResponder, GenerationFailed
from bankllm.assistant.wording.prompts import Messages
from bankllm.assistant.wording.responder import RESPONDERS
from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.denormals import flush_denormals
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings

logger = logging.getLogger(__name__)


class TransformersModel:
    """The model is loaded once and generates one text at a time."""

    is_remote = False

    def __init__(self, location: str, settings: Settings) -> None:
        """Load the model. Raises `ModelError` if it cannot be loaded."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        base = base_models.resolve(location, settings)
        place = base_models.ready_to_load(base, settings)
        device = base_models.device(settings)
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[base_models.precision(device)]
        self.name = f"transformers:{base.name}"
        options: dict[str, Any] = {"local_files_only": settings.offline}
        try:
            with quiet_loading():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(place, **options)
                options |= {"dtype": dtype, "output_loading_info": True}
                loaded: Any = AutoModelForCausalLM.from_pretrained(place, **options)
        except Exception as error:  # those of transformers, tokenizers and safetensors have no common base class
            raise ModelError(
                f"The responder's model {base.name} could not be loaded ({type(error).__name__}). Expected a Hub id or "
                "a folder of a causal language model with its tokenizer (config.json, weights, tokenizer.json)"
                + ("; BANKLLM_OFFLINE is set, so it must be in the local cache." if settings.offline else ".")
            ) from error
        model, report = loaded
        base_models.check_tensors(base, report["missing_keys"])
        self._model: Any = model.to(device).eval()
        self._lock = threading.Lock()

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        while not self._lock.acquire(timeout=0.1):
            if stop.is_set():
                return
        try:
            # torch raises RuntimeError (also if out of memory) and IndexError. A chat template raises ValueError and
            # exceptions of its own.
            ended = self._generate(messages, emit, stop)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            logger.warning("generation failed: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        finally:
            self._lock.release()
        if not ended and not stop.is_set():
            raise GenerationFailed("cut off")

    def _generate(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> bool:
        """Generate the text. Returns True if the model ended it, False if it was cut off."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList, TextStreamer

        flush_denormals()
        streamer: Any = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: emit(text)
        inputs = self._encode(messages).to(self._model.device)
        ends = self._model.generation_config.eos_token_id
        output = self._model.generate(
            **inputs,
            # A new config: the model's own may enable sampling, and would then warn that greedy decoding ignores it.
            generation_config=GenerationConfig(
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                eos_token_id=ends if ends is not None else self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            ),
            stopping_criteria=StoppingCriteriaList(
                [lambda ids, scores, **_: torch.full(ids.shape[:1], stop.is_set(), device=ids.device)]
            ),
            streamer=streamer,
        )
        return bool(output.shape[1] - inputs["input_ids"].shape[1] < MAX_NEW_TOKENS)

    def _encode(self, messages: Messages) -> Any:
        """Tokenize the chat with the model's chat template, or join the contents if there is no template."""
        if self._tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] for message in messages)
            return self._tokenizer(f"{text}\n\nReply: ", return_tensors="pt", return_token_type_ids=False)
        # enable_thinking=False turns off the reasoning text of models that have it. Other templates ignore the flag.
        options = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt", "enable_thinking": False}
        return self._tokenizer.apply_chat_template(messages, **options)


@RESPONDERS.register("transformers")
def make_transformers(rest: str, settings: Settings) -> GeneratingResponder:
    if not rest:
        raise UsageError(
            "The responder `transformers:` names no model. Expected transformers:<hub id or folder>. Correct "
            "--responder or BANKLLM_RESPONDER."
        )
    return GeneratingResponder(TransformersModel(rest, settings), settings.responder_timeout_s)
