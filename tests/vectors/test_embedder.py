"""`Embedder` with the real MiniLM model: vectors, cache and counts."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel

from bankllm import datasets
from bankllm.errors import ModelError
from bankllm.model import base_models
from bankllm.model.torch_classifier import load_body, load_tokenizer
from bankllm.settings import Settings
from bankllm.vectors import embedder as embedder_module
from bankllm.vectors.embedder import CHUNK, ENTRY_OVERHEAD, TTL_S, CacheCounts, Embedder
from tests.support.fake_embedder import DIM, vectors


@pytest.fixture(scope="module")
def loaded() -> Embedder:
    return Embedder()


@pytest.fixture
def embedder(loaded: Embedder) -> Embedder:
    loaded.clear_cache()
    loaded.counts = CacheCounts()
    return loaded


def count(embedder: Embedder) -> tuple[int, int]:
    return embedder.counts.hits, embedder.counts.misses


def test_hits_and_misses_are_counted_by_text(embedder: Embedder) -> None:
    first = embedder.encode(["card", "Card", "card"])  # only equal texts share a vector
    assert count(embedder) == (1, 2)
    again = embedder.encode(["Card", "card"])
    assert count(embedder) == (3, 2)
    np.testing.assert_array_equal(again, first[[1, 0]])
    embedder.encode(["cash"])
    assert embedder.counts.misses == 3


def test_batches_are_encoded_in_chunks_and_finished_chunks_survive_an_interrupt(loaded: Embedder, capsys) -> None:
    parts: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        parts.append(texts)
        if len(parts) == 4:
            raise KeyboardInterrupt
        return np.ones((len(texts), 3), np.float32)

    embedder = Embedder(encode=encode)
    texts = ["x" * (n % 40) + str(n) for n in range(2 * CHUNK + 10)]
    with pytest.raises(KeyboardInterrupt):
        embedder.encode(texts, progress=True)
    assert "embed:" in capsys.readouterr().err
    assert [len(part) for part in parts[1:]] == [CHUNK, CHUNK, 10]
    lengths = [len(text) for part in parts[1:] for text in part]
    assert lengths == sorted(lengths, reverse=True)
    embedder.encode(texts)
    assert parts[4:] == [parts[3]]


def test_the_cache_evicts_the_least_recently_used_vectors() -> None:
    entry = 4 * DIM + ENTRY_OVERHEAD
    embedder = Embedder(encode=vectors, cache_bytes=2 * entry)
    for text in ("one", "two", "one", "six"):  # "six" evicts "two"
        embedder.encode([text])
    assert (embedder._cache.currsize, count(embedder)) == (2 * entry, (1, 3))
    embedder.encode(["one", "six"])
    assert count(embedder) == (3, 3)
    embedder.encode(["two"])
    assert count(embedder) == (3, 4)


def test_a_vector_leaves_the_cache_after_at_most_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TTL_S <= 600
    monkeypatch.setattr(embedder_module, "TTL_S", 0.0)
    embedder = Embedder(encode=vectors)
    embedder.encode(["card"])
    assert embedder._cache.currsize == 0
    embedder.encode(["card"])
    assert count(embedder) == (0, 2)


def test_threads_share_one_embedder(embedder: Embedder) -> None:
    texts = [f"text number {i}, {'long ' * (i % 7)}" for i in range(40)]
    expected = embedder.encode(texts)
    embedder.clear_cache()

    def work(seed: int) -> np.ndarray:
        order = np.random.default_rng(seed).permutation(40)
        return np.stack([embedder.encode([texts[i]])[0] for i in order])[np.argsort(order)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sum(count(embedder)) == 40 + 160


def test_the_graph_gives_the_vectors_of_sentence_transformers(loaded: Embedder) -> None:
    texts = [*datasets.load("teller77").test.texts[::20], "", "£3.50 für Müller, 你好 🙂", "where is my money? " * 80]
    expected = SentenceTransformer(base_models.resolve().location).encode(texts, normalize_embeddings=True)
    assert (1 - (loaded.encode(texts) * expected).sum(axis=1)).max() <= 1e-5
    alone = np.concatenate([loaded.encode([text]) for text in texts])
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_torch_gives_the_same_vectors(embedder: Embedder) -> None:
    torch_embedder = Embedder(settings=Settings(inference="torch"))
    assert torch_embedder.model_id == embedder.model_id
    np.testing.assert_allclose(torch_embedder.encode(["my card", "hi"]), embedder.encode(["my card", "hi"]), atol=1e-5)


@pytest.mark.slow
def test_embedding_does_not_load_torch() -> None:
    code = """import sys; from bankllm.vectors.embedder import Embedder
Embedder().encode(["my card"] * 3); print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["cls", "lasttoken", "max", "dense"])
def test_other_poolings_and_parts_give_the_vectors_of_sentence_transformers(tmp_path: Path, parts: str) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path / "body")
    load_tokenizer(base_models.resolve()).save_pretrained(tmp_path / "body")
    modules = [Transformer(str(tmp_path / "body")), Pooling(8, "mean" if parts == "dense" else parts)]
    model = SentenceTransformer(modules=[*modules, *([Dense(8, 4)] if parts == "dense" else [])], device="cpu")
    model.save(str(tmp_path / "model"))
    texts = ["my card never came", "hi"]
    found = Embedder(str(tmp_path / "model"), settings=Settings(cache=tmp_path / "cache")).encode(texts)
    np.testing.assert_allclose(found, model.encode(texts, normalize_embeddings=True), atol=1e-5)
    assert (tmp_path / "cache").exists() == (parts in ("cls", "lasttoken"))


def test_damaged_files_of_sentence_transformers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "modules.json").write_text('[{"idx": 0')
    with pytest.raises(ModelError, match=r"files of sentence-transformers in .* cannot be read \(JSONDecodeError"):
        Embedder(str(tmp_path))


@pytest.mark.slow
def test_a_plain_encoder_folder_gets_mean_pooling(embedder: Embedder, tmp_path: Path) -> None:
    base = base_models.resolve("minilm")
    load_body(base, quantised=False, device="cpu").save_pretrained(tmp_path / "plain")
    load_tokenizer(base).save_pretrained(tmp_path / "plain")
    plain = Embedder(str(tmp_path / "plain"))
    np.testing.assert_allclose(plain.encode(["my card"]), embedder.encode(["my card"]), atol=1e-5)
    assert plain.model_id.startswith("plain@")
