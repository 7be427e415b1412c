"""The re-ranker uses the scores of a cross-encoder; the threshold keeps its error on new questions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.torch_classifier import load_tokenizer
from bankllm.settings import Settings
from bankllm.vectors.reranking import Reranker, calibrate
from bankllm.vectors.rows import Match


def match(text: str, score: float = 0.5) -> Match:
    return Match(text, score, text, {}, "")


def cross_encoder(folder: Path, labels: int = 1, kind: type = BertForSequenceClassification) -> str:
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=labels
    )
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    load_tokenizer(base_models.resolve()).save_pretrained(folder)
    return str(folder)


def test_matches_are_ordered_by_the_cross_encoder(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path)
    matches = [match(text) for text in ("cash abroad", "my card is lost", "exchange rate", "a")]
    expected = CrossEncoder(folder, device="cpu").predict([("lost card", one.text) for one in matches])
    ranked = Reranker(folder).rank("lost card", matches)
    assert [one.text for one, _ in ranked] == [matches[place].text for place in np.argsort(-expected)]
    assert [score for _, score in ranked] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert Reranker(folder).rank("lost card", []) == []


def test_a_model_that_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is BertForSequenceClassification with 3 outputs\. Expected a cross-encoder"):
        Reranker(cross_encoder(tmp_path / "three", labels=3))
    with pytest.raises(ModelError, match=r"is BertModel with 1 outputs\. Expected a cross-encoder"):
        Reranker(cross_encoder(tmp_path / "encoder", kind=BertModel))
    with pytest.raises(ModelError, match=r"BANKLLM_OFFLINE=1 forbids the download of org/cross"):
        Reranker("org/cross", Settings(offline=True))
    (tmp_path / "three" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"The re-ranker three cannot be loaded"):
        Reranker(str(tmp_path / "three"))


def test_few_new_unanswerable_questions_reach_the_threshold() -> None:
    draw = np.random.default_rng(0)
    scores = {f"known {n}": draw.normal(0.7, 0.1) for n in range(200)} | {
        f"unknown {n}": draw.normal(0.3, 0.1) for n in range(2000)
    }
    shares = []
    for start in range(0, 2000, 100):  # each time 99 questions calibrate, and 1 is new
        unknown = [f"unknown {n}" for n in range(start, start + 100)]
        for left_out in unknown[:20]:
            found = calibrate(
                lambda question: [match("text", scores[question])],
                [f"known {n}" for n in range(200)],
                [question for question in unknown if question != left_out],
            )
            shares.append(scores[left_out] >= found.score)
            assert found.recognised > 0.9
    assert 0.01 < np.mean(shares) < 0.09


@pytest.mark.parametrize(("count", "error"), [(18, 0.05), (100, 0.0), (100, 1.0)])
def test_too_few_questions_are_refused(count: int, error: float) -> None:
    with pytest.raises(UsageError, match=r"Expected an error between 0 and 1, at least \d+ unanswerable questions"):
        calibrate(lambda question: [match("text")], ["known"], ["unknown"] * count, error)
