"""Teller77: counts, labels and splits as documented, and texts independent of Banking77."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bankllm.datasets import Dataset, load, normalise
from bankllm.datasets import teller77 as module
from bankllm.datasets.teller77 import ASSISTANT_INTENTS, banking77_labels, intent_definitions
from bankllm.errors import DataError
from bankllm.model import base_models
from tests.support import ROOT


@pytest.fixture(scope="module")
def teller77() -> Dataset:
    return load("teller77")


def test_labels_are_those_of_banking77_and_the_assistant(teller77: Dataset) -> None:
    assert len(banking77_labels()) == 77
    assert set(teller77.label_names) == set(banking77_labels()) | set(ASSISTANT_INTENTS) == set(intent_definitions())


def test_a_checkout_with_converted_line_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((module.FOLDER / name).read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=r"not the published teller77 file: .* Only its line ends differ, as after git"):
        load("teller77")


def test_git_writes_hashed_files_as_they_are(tmp_path: Path) -> None:
    """As in a clone on Windows."""
    names = ["bankllm/data/teller77/train.csv", "outputs/reference/records.jsonl", "bankllm/datasets/teller77.py"]
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    checkout = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "checkout-index", f"--prefix={tmp_path}/"]
    subprocess.run([*checkout, "--", *names], cwd=ROOT, check=True)
    for name in names:
        assert b"\r" not in (tmp_path / name).read_bytes(), name


def test_no_text_occurs_twice(teller77: Dataset) -> None:
    counts = Counter(normalise(text) for text in (*teller77.train.texts, *teller77.test.texts))
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.slow
def test_no_text_is_copied_from_banking77(teller77: Dataset, banking77: Path) -> None:
    banking = load("banking77")
    published = [*banking.train.texts, *banking.test.texts]
    ours = [*teller77.train.texts, *teller77.test.texts]
    assert {normalise(text) for text in ours} & {normalise(text) for text in published} == set()

    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(base_models.resolve("minilm").location, device="cpu")
    our_vectors, published_vectors = (
        encoder.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        for texts in (ours, published)
    )
    nearest = (our_vectors @ published_vectors.T).max(axis=1)
    close = [text for text, cosine in zip(ours, nearest, strict=True) if cosine >= 0.95]
    assert len(close) <= 0.01 * len(ours), close
