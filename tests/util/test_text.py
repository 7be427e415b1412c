"""A text without a visible character is blank."""

import pytest

from bankllm.util.text import is_blank

# Each text is given by its code points, which an editor would not show.
BLANK = (
    "", "20 9 d a", "200b", "200b 20 200c 200d", "feff", "2060 ad", "a0 3000", "2028 85 c", "0 1b", "fe0f", "34f",
    "3164", "2800", "115f 1160", "180e", "202e 202c", "e0041", "301",
)  # fmt: skip
CONTENT = ("61", "3f", "200b 2e", "30", "e9", "65 301", "732b", "1f469 200d 1f4bb", "928 93f", "a3", "d800", "e000")


def text_of(points: str) -> str:
    return "".join(chr(int(point, 16)) for point in points.split())


@pytest.mark.parametrize("points", BLANK)
def test_a_text_that_shows_nothing_is_blank(points: str) -> None:
    assert is_blank(text_of(points))


@pytest.mark.parametrize("points", CONTENT)
def test_every_other_text_has_content(points: str) -> None:
    assert not is_blank(text_of(points))
