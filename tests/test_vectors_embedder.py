"""The embedder with the real MiniLM: vectors, cache and counts."""

import threading
from pathlib import Path

import numpy as np
import pytest

from bankllm import models
from bankllm.classifier import load_body, load_tokenizer
from bankllm.encoder import pool
from bankllm.errors import ModelError, UsageError
from bankllm.vectors.embedder import Embedder


@pytest.fixture(scope="module")
def loaded() -> Embedder:
    return Embedder()


@pytest.fixture
def embedder(loaded: Embedder) -> Embedder:
    loaded.clear_cache()
    loaded.cache_bytes = 64 * 2**20
    return loaded


def test_vectors_are_unit_length_and_near_in_meaning(embedder: Embedder) -> None:
    lost, stolen, rate = embedder.encode(["I lost my card", "My card was stolen", "What is the exchange rate?"])
    assert (embedder.dim, lost.dtype) == (384, np.float32)
    assert np.linalg.norm(lost) == pytest.approx(1, abs=1e-6)
    assert lost @ stolen > lost @ rate + 0.2
    assert embedder.model_id == f"all-MiniLM-L6-v2@{models.MINILM_SHA256[:12]}"


def test_vectors_agree_with_the_classifiers_mean_pooling(embedder: Embedder) -> None:
    base = models.resolve("minilm")
    tokens = load_tokenizer(base)(["my card is lost"], return_tensors="pt").to(models.device())
    hidden = load_body(base, quantised=False, device=models.device())(**tokens).last_hidden_state
    pooled = pool(hidden, tokens["attention_mask"], "mean")[0].detach().cpu().numpy()
    np.testing.assert_allclose(embedder.encode(["my card is lost"])[0], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_hits_and_misses_are_counted_by_text(embedder: Embedder) -> None:
    first = embedder.encode(["a", "b", "a"])
    assert (embedder.hits, embedder.misses) == (1, 2)
    again = embedder.encode(["b", "a"])
    assert (embedder.hits, embedder.misses, embedder.hit_rate) == (3, 2, 0.6)
    np.testing.assert_array_equal(again, first[[1, 0]])
    embedder.encode(["A"])  # other letters are another text
    assert embedder.misses == 3


def test_the_cache_drops_the_least_recently_used(embedder: Embedder) -> None:
    embedder.encode(["one"])
    embedder.cache_bytes = 2 * embedder.cached_bytes
    embedder.encode(["two"])
    embedder.encode(["one"])
    embedder.encode(["six"])  # "two" has to go
    assert embedder.cached_bytes <= embedder.cache_bytes
    misses = embedder.misses
    embedder.encode(["one", "six"])
    assert embedder.misses == misses
    embedder.encode(["two"])
    assert embedder.misses == misses + 1


def test_without_room_everything_is_still_answered(embedder: Embedder) -> None:
    embedder.cache_bytes = 0
    assert embedder.encode(["a", "b", "a"]).shape == (3, 384)
    assert embedder.cached_bytes == 0


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, 384)
    assert embedder.hit_rate == 0


def test_threads_share_one_embedder(embedder: Embedder) -> None:
    texts = [f"text number {i}, {'long ' * (i % 7)}" for i in range(40)]
    expected = embedder.encode(texts)
    embedder.clear_cache()
    results: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(40)
        results[seed] = np.stack([embedder.encode([texts[i]])[0] for i in order])[np.argsort(order)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in results.values():
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert embedder.hits + embedder.misses == 160


def test_a_single_text_instead_of_a_list_is_refused(embedder: Embedder) -> None:
    with pytest.raises(UsageError, match="takes a list of texts"):
        embedder.encode("my card")
    with pytest.raises(UsageError, match="takes a list of texts"):
        embedder.encode([None])  # type: ignore[list-item]


def test_a_plain_encoder_folder_is_pooled_by_its_mean(embedder: Embedder, tmp_path: Path) -> None:
    base = models.resolve("minilm")
    load_body(base, quantised=False, device="cpu").save_pretrained(tmp_path / "plain")
    load_tokenizer(base).save_pretrained(tmp_path / "plain")
    plain = Embedder(str(tmp_path / "plain"))
    np.testing.assert_allclose(plain.encode(["my card"]), embedder.encode(["my card"]), atol=1e-5)
    assert plain.model_id.startswith("plain@")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded.*Expected a Hugging Face id"):
        Embedder(str(tmp_path))
