"""The chat page in a real browser: Debian's Chromium, driven by Playwright, against a real uvicorn on loopback."""

import re
import shutil
from contextlib import closing

import pytest
from playwright.sync_api import expect, sync_playwright

from bankllm.assistant.engine import ChatEngine
from bankllm.settings import Settings
from tests.support.live_server import served

expect.set_options(timeout=30_000)  # a busy machine is slow
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture
def engine(tmp_path):
    with closing(ChatEngine.load(Settings(store=tmp_path / "store.sqlite"))) as made:
        yield made


@pytest.fixture
def url(engine):
    with served(engine, Settings()) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, url):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    opened = context.new_page()
    opened.external_requests, opened.errors = [], []
    opened.on("request", lambda request: url in request.url or opened.external_requests.append(request.url))
    opened.on("console", lambda said: said.type == "error" and opened.errors.append(said.text))
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.goto(url)
    yield opened
    context.close()


def test_conversation_by_keyboard_on_a_small_dark_screen(page):
    page.keyboard.type("What is my account balance?")  # the message has the focus from the start
    page.keyboard.press("Enter")
    answer = page.locator(".assistant").last
    expect(answer).to_contain_text("£4,907.60")
    expect(answer).to_contain_text(re.compile(r"account balance, \d\d % confidence"))
    expect(answer).to_contain_text("ledger:ACC00101")
    expect(answer).to_contain_text("ms (queue")
    page.keyboard.type("and my card?")
    page.keyboard.press("Enter")
    expect(page.locator(".assistant")).to_have_count(2)
    expect(page.locator("#message")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.external_requests == page.errors == []


def test_an_action_is_confirmed_with_its_button(page, engine):
    before = engine.bank.accounts("CUST001")[0].balance_minor
    page.keyboard.type("transfer £50 to Mum")
    page.keyboard.press("Enter")
    group = page.get_by_role("group", name="Confirm this action")
    expect(group.get_by_role("button")).to_have_text(["Yes", "No"])
    page.get_by_role("button", name="Yes").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".assistant").last).to_contain_text("Done: Transfer £50.00")
    expect(page.get_by_role("button", name="Yes")).to_have_count(0)
    assert engine.bank.accounts("CUST001")[0].balance_minor == before - 5000
    assert page.errors == []


def test_spending_is_shown_as_a_chart_a_table_and_what_was_understood(page, engine):
    page.fill("#message", "groceries in the last 3 months")
    page.keyboard.press("Enter")
    answer = page.locator(".assistant").last
    expect(answer.get_by_role("list", name="Understood as")).to_contain_text("spending · groceries")
    expect(answer.get_by_role("img", name=re.compile("By month: .*£"))).to_be_visible()
    answer.locator("summary", has_text="payments").click()
    assert answer.locator("tbody tr").count() > 5
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_text_is_never_interpreted_as_markup(page):
    page.fill("#message", "<img src=x onerror=alert(1)><b>balance</b>")
    page.keyboard.press("Enter")
    expect(page.locator(".assistant")).to_have_count(1)
    expect(page.locator(".user")).to_have_text("<img src=x onerror=alert(1)><b>balance</b>")
    assert page.locator("main img, main b").count() == 0


def test_error_is_announced_and_the_message_is_kept(page):
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Customer").fill("CUST999")
    page.get_by_label("Your message").fill("balance")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no customer with this id")
    expect(page.locator("#message")).to_have_value("balance")
    page.errors.clear()  # the browser logs the 404


def test_security_headers(page):
    response = page.goto(page.url)
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
