"""The packaged adapter belongs to the packaged base model, and its card holds."""

import json

import pytest

from bankllm.evidence.verification.verify import verify
from bankllm.model import base_models, generation, smollm2

if not generation.PACKAGED.exists():
    pytest.skip("no adapter is packaged", allow_module_level=True)


def test_its_numbers_verify_and_it_is_small() -> None:
    verdict = verify(generation.PACKAGED)
    assert verdict.holds, verdict.summary()
    assert sum(path.stat().st_size for path in generation.PACKAGED.rglob("*") if path.is_file()) <= 10 * 2**20


def test_it_was_trained_on_the_packaged_base() -> None:
    made = json.loads((generation.PACKAGED / "training.json").read_bytes())
    assert made["model"] == smollm2.NAME
    if smollm2.gguf_file() is not None:
        generation.check_base(generation.PACKAGED, base_models.resolve("smollm2"))
