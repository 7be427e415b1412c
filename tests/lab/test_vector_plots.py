"""Plots of vector search: themes of the map, and bars with the measured values."""

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


def test_bars_show_each_modes_value_and_interval() -> None:
    _, (axis,) = plots.new_figure()
    group = {"dense": (0.5, 0.4, 0.6), "lexical": (0.3, 0.2, 0.45), "hybrid": (0.6, 0.5, 0.7)}
    vector_plots.retrieval_bars(axis, {"code": group, "name": group}, title="Quality", unit="nDCG@10 (%)")
    bars = [bar for container in axis.containers for bar in container if hasattr(bar, "get_height")]
    assert [round(bar.get_height()) for bar in bars] == [50, 50, 30, 30, 60, 60]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["code", "name"]
