"""RESULTS.html in a real Chromium: light and dark mode, desktop and phone widths, and print."""

import pytest

from tests.support.sealed_run import sealed_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (sealed_run(tmp_path_factory.mktemp("runs") / "run") / "RESULTS.html").as_uri()


def contrast(page, selector: str) -> float:
    """WCAG contrast ratio of an element's text against the background of the page."""
    return page.evaluate(
        """selector => {
          const light = colour => {
            const [r, g, b] = colour.match(/\\d+/g).map(Number).map(v => v / 255)
              .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const text = light(getComputedStyle(document.querySelector(selector)).color);
          const page = light(getComputedStyle(document.body).backgroundColor);
          return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
        }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_readable_and_loads_nothing_external(browser, url: str, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    external_requests: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "data:")) else external_requests.append(request.url),
    )
    page.goto(url)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in ("body", "p.lead", "td.soft", "tr.missing td", "a"):
        assert contrast(page, selector) >= 4.5, selector
    assert external_requests == []
    context.close()
