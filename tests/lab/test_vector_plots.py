"""Plots of vector search: labels on the map do not overlap, and curves show the measured values."""

import numpy as np

from bankllm.datasets.teller77 import intent_definitions
from bankllm.lab import plots, vector_plots
from bankllm.lab.vector_plots import THEMES, theme


def test_every_intent_has_a_theme_and_every_theme_has_an_intent() -> None:
    themes = {intent: theme(intent) for intent in intent_definitions()}
    assert set(themes.values()) == set(THEMES) - {"other"}
    assert themes["top_up_failed"] == themes["topping_up_by_card"] == "top-up"
    assert themes["Refund_not_showing_up"] == "payments"
    assert themes["change_pin"] == themes["pin_blocked"] == "cards and PIN"
    assert theme("weather") == "other"


def test_labels_on_the_map_do_not_overlap() -> None:
    generator = np.random.default_rng(0)
    intents = [intent for intent in list(intent_definitions())[:30] for _ in range(5)] + ["greeting"]
    clusters = np.repeat(generator.normal(scale=9, size=(30, 2)), 5, axis=0)
    places = np.concatenate([clusters + generator.normal(scale=0.3, size=clusters.shape), [[0, 0]]])
    figure, (axis,) = plots.new_figure(width=9, height=7)
    vector_plots.text_map(axis, places, intents, title="Map")
    figure.draw_without_rendering()
    assert len(axis.texts) >= 15
    assert "greeting" not in {text.get_text() for text in axis.texts}  # too few texts for a label
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert sum(len(dots.get_offsets()) for dots in axis.collections) == len(intents)


def test_bars_show_each_modes_value_and_interval() -> None:
    _, (axis,) = plots.new_figure()
    group = {"dense": (0.5, 0.4, 0.6), "lexical": (0.3, 0.2, 0.45), "hybrid": (0.6, 0.5, 0.7)}
    vector_plots.retrieval_bars(axis, {"code": group, "name": group}, title="Quality", unit="nDCG@10 (%)")
    bars = [bar for container in axis.containers for bar in container if hasattr(bar, "get_height")]
    assert [round(bar.get_height()) for bar in bars] == [50, 50, 30, 30, 60, 60]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["code", "name"]
