"""What a plot shows, for tests."""

from matplotlib.axes import Axes


def legend(axis: Axes) -> list[str]:
    """Return the texts of the legend. Fails without a legend."""
    shown = axis.get_legend()
    assert shown is not None
    return [text.get_text() for text in shown.get_texts()]
