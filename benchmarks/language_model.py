"""Training speed of a language model: a plain TRL script and ours, on the same examples, for the same steps.

python benchmarks/language_model.py [--steps 20] [--rank 8]

Both train SmolLM2 with LoRA on all linear layers in batches of 16 random examples of TellerChat, with AdamW and the
same learning rates, and both flush denormal numbers. The plain script uses the defaults of `SFTTrainer`, which are bf16
and activations that are computed twice; `plain fp32` sets both off, which a CPU without AMX runs faster. The share of
the peak counts the 4 operations per weight and token that LoRA needs, without attention and output layer, for each
token of the examples. Each round is a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import torch

from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.model import base_models
from bankllm.model.denormals import flush_denormals
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.token_rows import task_of

VALIDATION = 48
LEARNING_RATE = 1e-3


def plain(steps: int, rank: int, fp32: bool) -> dict[str, float]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    flush_denormals()
    location = base_models.resolve("smollm2").location
    train, validation = (
        Dataset.from_list(
            [
                {"prompt": prompt, "completion": [{"role": "assistant", "content": completion}]}
                for prompt, completion in map(task_of, part)
            ]
        )
        for part in _examples()
    )
    options = {"bf16": False, "gradient_checkpointing": False} if fp32 else {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32),
            args=SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=16,
                learning_rate=LEARNING_RATE,
                warmup_steps=1,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_steps=1000,
                disable_tqdm=True,
                **options,
            ),
            train_dataset=train,
            eval_dataset=validation,
            processing_class=AutoTokenizer.from_pretrained(location),
            peft_config=LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        tokens = trainer._total_train_tokens
        return {"tokens_per_s": tokens / seconds, "loss": trainer.evaluate()["eval_loss"], "tokens": tokens}


def ours(steps: int, rank: int) -> dict[str, float]:
    train, validation = _examples()
    config = LanguageModelConfig(rank=rank, max_steps=steps, learning_rate=LEARNING_RATE)
    tuned = fine_tune(config, train, validation=validation, evaluations=1, progress=False)
    loss = tuned.curve[-1]["validation_loss"]
    return {
        "tokens_per_s": tuned.costs["tokens"] / tuned.costs["seconds"],
        "loss": float(str(loss)),
        "tokens": tuned.costs["tokens"],
    }


def peak() -> float:
    """Operations per second of large products of matrices in fp32, with all threads."""
    a = torch.randn(2048, 2048)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 2048**3 / (time.perf_counter() - start)


def _examples() -> tuple[list[Understand | Word], list[Understand | Word]]:
    test = [*load(Understand, "test")[: VALIDATION // 2], *load(Word, "test")[: VALIDATION // 2]]
    return [*load(Understand, "train"), *load(Word, "train")], test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--only", action="append", choices=["plain", "plain fp32", "ours"], help="Can be repeated.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        steps, rank = arguments.steps, arguments.rank
        found = ours(steps, rank) if arguments.one == "ours" else plain(steps, rank, arguments.one != "plain")
        print(json.dumps({**found, "share": found["tokens_per_s"] * 4 * 106.2e6 / peak()}))
        return
    print(f"{arguments.steps} steps, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads")
    for name in arguments.only or ["ours", "plain fp32", "plain"]:
        command = [sys.executable, __file__, "--one", name, "--steps", str(arguments.steps)]
        command += ["--rank", str(arguments.rank)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(output.splitlines()[-1])
        print(
            f"{name:10}  {found['tokens_per_s']:6.1f} tokens/s  {found['tokens']:6.0f} tokens  "
            f"{found['share']:5.0%} of the fp32 peak  validation loss {found['loss']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
