"""What a person sees and does (requirements D6, F1, F2, F3, F5, G5, A10), in a real browser before real processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, Locator, Page, expect
from tests.browser.conftest import NAMES, Watched, watching
from tests.system.harness import HELLO, House, Load, Router, ask, call, eventually

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(180)]

PAGES = ("fleet", "models", "requests", "try", "events", "settings")
STRANGERS = ["--trust", "127.0.0.9"]  # this machine's nodes count as others' then
SOON = 2_000  # milliseconds in which what happened is on the page (the figure)

Fleet = tuple[House, Router]


def card(page: Page, name: str) -> Locator:
    return page.locator("lr-node-card", has=page.get_by_role("button", name=name, exact=True))


# -- it is live


def test_facts(fleet: Fleet, window: Watched) -> None:
    """F1: every node with its state, address, runtime, models, slots, counts, response time, uptime, CPU and memory."""
    _, router = fleet
    page = window.open(router.url)
    for name in NAMES:
        node, shown = router.node(name), card(page, name)
        expect(shown).to_contain_text("Online")
        expect(shown).to_contain_text(node.url.removeprefix("http://"))
        expect(shown).to_contain_text("llama.cpp")
        expect(shown).to_contain_text(HELLO)
        for label in ("Slots", "CPU", "Memory", "GPU", "Done", "Errors", "Response", "Uptime"):
            expect(shown).to_contain_text(label)


def test_new_node(fleet: Fleet, window: Watched) -> None:
    """A node that joins is there within two seconds, and one that is removed is gone, with no reload."""
    house, router = fleet
    fake = house.fake("newcomer", models="m1")
    page = window.open(router.url)
    page.evaluate("window.same = true")
    router.attach(fake)
    expect(card(page, "newcomer")).to_be_visible(timeout=SOON)

    page.get_by_role("button", name="newcomer").click()
    page.get_by_role("button", name="Remove").click()
    page.locator("dialog.box").get_by_role("button", name="Remove").click()
    expect(card(page, "newcomer")).to_have_count(0)
    assert "newcomer" not in router.nodes()
    assert page.evaluate("window.same")
    fake.stop()


def test_counts_move(fleet: Fleet, window: Watched) -> None:
    """Under load the counts and rates of the whole and of a node move, and the requests are listed as they end."""
    _, router = fleet
    page = window.open(router.url)
    done = page.locator(".tile", has_text="Done").locator(".tile-value")
    before = int(done.inner_text().replace(",", ""))
    with Load(router.url, HELLO, rate=10):
        page.wait_for_function(
            "([tile, n]) => parseInt(tile.textContent.replace(',', ''), 10) > n + 10",
            arg=[done.element_handle(), before],
        )
        expect(page.locator(".tile", has_text="Requests per second").locator(".tile-value")).not_to_have_text("0.0")
        page.get_by_role("link", name="Requests").click()
        first = page.locator(".requests-table .row").first
        shown = first.inner_text()
        expect(first).not_to_have_text(shown)
    expect(first).to_contain_text(HELLO)


def test_killed_node(empty_house: House, window: Watched) -> None:
    """`kill -9` of a node shows as offline within 30 s + 2 s; started again, it is online again."""
    router = empty_house.router("--host", "127.0.0.1")
    node = empty_house.node(router, "mortal")
    page = window.open(router.url)
    expect(card(page, "mortal")).to_contain_text("Online")
    node.kill()
    expect(card(page, "mortal")).to_contain_text("Offline", timeout=32_000)
    node.start()
    expect(card(page, "mortal")).to_contain_text("Online", timeout=30_000)


def test_router_gone(empty_house: House, browser: Browser) -> None:
    """A lost connection says so, and comes back by itself when the router does."""
    router = empty_house.router("--host", "127.0.0.1")
    window = Watched(browser, locale="en-US")  # not `watching`: the browser itself notes what it could not reach
    page = window.open(router.url)
    router.kill()
    expect(page.get_by_text("The router does not answer.")).to_be_visible()
    router.start()
    expect(page.locator('.link-state[data-state="live"]')).to_be_visible()
    expect(page.get_by_text("The router does not answer.")).to_be_hidden()
    window.context.close()


# -- one can work with it (F3)


def test_approve(empty_house: House, window: Watched) -> None:
    """A machine that asks to join is shown first; approved here, it serves."""
    router = empty_house.router(*STRANGERS, "--auth", "off", "--host", "127.0.0.1")
    empty_house.node(router, "lab", *STRANGERS)
    page = window.open(router.url)
    expect(card(page, "lab")).to_contain_text("Waits for you")
    card(page, "lab").get_by_role("button", name="Approve").click()
    expect(card(page, "lab")).to_contain_text("Online", timeout=30_000)
    assert ask(router.url, "ollama", HELLO).status == 200


def test_node_settings(empty_house: House, window: Watched) -> None:
    """Name, tags, notes and drain are set in a node's pane; the router has them, and the card shows them."""
    router = empty_house.router("--host", "127.0.0.1")
    router.attach(empty_house.fake("plain", models="m1"))
    page = window.open(router.url)
    page.get_by_role("button", name="plain").click()
    pane = page.locator("dialog")
    pane.get_by_label("Display name").fill("  fancy ")
    pane.get_by_label("Tags").fill("gpu, rack 2")
    pane.get_by_label("Notes").fill("under the stairs")
    pane.get_by_role("button", name="Save").click()
    expect(pane.get_by_role("heading", name="fancy")).to_be_visible()
    pane.get_by_role("button", name="Send nothing new").click()
    expect(pane.get_by_role("button", name="Send requests to this node again")).to_be_visible()
    settings = router.node("fancy").settings
    assert (settings.tags, settings.notes, settings.drain) == (["gpu", "rack 2"], "under the stairs", True)
    page.keyboard.press("Escape")
    expect(card(page, "fancy")).to_contain_text("Drained")
    expect(card(page, "fancy")).to_contain_text("rack 2")


def test_exclusion_lifted(empty_house: House, window: Watched) -> None:
    """A model that failed on a node is shown as excluded there, with the reason, and can be lifted."""
    router = empty_house.router("--host", "127.0.0.1")
    fake = empty_house.fake("shaky", models="m1,m2")
    router.attach(fake)
    fake.set(only="m1", status=500)
    ask(router.url, "ollama", "m1")
    eventually(lambda: router.node("shaky").excluded == ["m1"])
    page = window.open(router.url, "models")
    row = page.get_by_role("row", name="m1")
    expect(row).to_contain_text("500")
    row.get_by_role("button", name="Lift").click()
    expect(row.get_by_role("button", name="Lift")).to_have_count(0)
    assert router.node("shaky").excluded == []


def test_attach(empty_house: House, window: Watched) -> None:
    """An empty fleet says what to do: the command to run, or a server's address to give here."""
    router = empty_house.router("--host", "127.0.0.1")
    fake = empty_house.fake("far", models="m1")
    page = window.open(router.url)
    expect(page.get_by_text("No node yet")).to_be_visible()
    expect(page.locator(".empty .copy-text")).to_contain_text("llm-router node")
    page.locator(".empty").get_by_role("button", name="Add a node").click()
    box = page.locator("dialog")
    box.get_by_label("Address").fill(fake.url)
    box.get_by_label("Display name").fill("far")
    box.get_by_role("button", name="Attach").click()
    expect(card(page, "far")).to_be_visible()
    expect(page.get_by_text("No node yet")).to_be_hidden()


def test_keys(empty_house: House, window: Watched) -> None:
    """A10: a key is made, shown once, works, and fails once it is revoked."""
    router = empty_house.router("--host", "127.0.0.1", "--auth", "auto")
    page = window.open(router.url, "settings")
    page.get_by_role("button", name="Create a key").click()
    page.locator("dialog").get_by_label("Name").fill("notebook")
    page.locator("dialog").get_by_role("button", name="Create", exact=True).click()
    shown = page.locator("dialog .copy-text")
    expect(shown).to_contain_text("lr-")
    key = shown.inner_text()
    page.keyboard.press("Escape")
    expect(page.get_by_role("row", name="notebook")).to_be_visible()
    assert key not in page.content()
    page.get_by_role("button", name="Revoke notebook").click()
    page.locator("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("There is no key yet.")).to_be_visible()


def test_chat(fleet: Fleet, window: Watched) -> None:
    """A chat streams from a real model, and says which node answered, and how fast."""
    _, router = fleet
    page = window.open(router.url, "try")
    page.get_by_label("Model", exact=True).select_option(HELLO)
    page.get_by_label("Message").fill("Who are you?")
    page.keyboard.press("Enter")
    answer = page.locator("lr-answer")
    expect(answer.locator(".bubble")).to_contain_text("Hello!")
    expect(answer).not_to_have_class("turn answer running")
    assert answer.locator(".answered-by").inner_text() in NAMES
    expect(answer).to_contain_text("first token")
    page.get_by_text("Which node would answer").click()
    expect(page.locator(".why table")).to_contain_text("node-a")


def test_chat_stopped(empty_house: House, window: Watched) -> None:
    """An answer is shown as it comes, and stops where a person stops it; the node is told."""
    router = empty_house.router("--host", "127.0.0.1")
    fake = empty_house.fake("slow", models="m1", tokens=10_000, delay=0.02)
    router.attach(fake)
    page = window.open(router.url, "try/m1")
    page.get_by_label("Message").fill("Count!")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("lr-answer.running .bubble")).to_contain_text("one two three")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("lr-answer")).to_contain_text("Stopped.")
    eventually(lambda: fake.seen().cancelled == 1)


def test_history(fleet: Fleet, window: Watched) -> None:
    """Requests are filtered by the router, opened for their details, and can be taken away as a file."""
    _, router = fleet
    ask(router.url, "ollama", "no-such-model")
    ask(router.url, "ollama", HELLO)
    page = window.open(router.url, "requests")
    page.get_by_role("searchbox").fill("no-such")
    row = page.locator(".requests-table .row")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("404")
    row.get_by_role("button").click()
    expect(page.locator("dialog")).to_contain_text("no-such-model")
    page.keyboard.press("Escape")
    with page.expect_download() as taken:
        page.get_by_role("link", name="CSV").click()
    assert b"no-such-model" in Path(taken.value.path()).read_bytes()


def test_events(fleet: Fleet, window: Watched) -> None:
    """What happens to nodes is listed as it happens, and can be searched."""
    house, router = fleet
    fake = house.fake("visitor", models="m1")
    page = window.open(router.url, "events")
    router.attach(fake)
    expect(page.locator(".event").filter(has_text="visitor").first).to_be_visible(timeout=SOON)
    page.get_by_role("searchbox").fill("node-b")
    expect(page.locator(".event").filter(has_text="visitor")).to_have_count(0)
    expect(page.locator(".event").first).to_contain_text("node-b")
    call(router.url, "DELETE", f"/v0/nodes/{router.node('visitor').id}")
    fake.stop()


# -- it is for everybody


def test_japanese(fleet: Fleet, browser: Browser) -> None:
    """F5: Japanese where the browser asks for it; English when that is chosen, which is remembered."""
    _, router = fleet
    with watching(browser, locale="ja-JP") as window:
        page = window.open(router.url)
        expect(page.get_by_role("heading", level=1)).to_have_text("ノード")
        expect(card(page, "node-a")).to_contain_text("オンライン")
        assert page.evaluate("document.documentElement.lang") == "ja"
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(fleet: Fleet, browser: Browser, scheme: str) -> None:
    """Of axe's findings none is serious or critical, on any page, wide or on a phone, nor in an open pane."""
    _, router = fleet
    ask(router.url, "ollama", HELLO)
    for width in (1280, 390):
        with watching(browser, color_scheme=scheme, viewport={"width": width, "height": 844}) as window:
            for name in PAGES:
                assert not _findings(window.open(router.url, name)), name
            page = window.open(router.url)
            page.get_by_role("button", name="node-a").click()
            expect(page.locator("dialog")).to_be_visible()
            assert not _findings(page)


def _findings(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {[node['html'] for node in v['nodes']][:3]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def test_keyboard(fleet: Fleet, window: Watched) -> None:
    """Without a mouse: a link past the navigation, a pane that opens, takes the focus, closes and gives it back."""
    _, router = fleet
    page = window.open(router.url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    opener = page.get_by_role("button", name="node-b")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()


def test_phone(fleet: Fleet, browser: Browser) -> None:
    """On a phone nothing is wider than the screen."""
    _, router = fleet
    with watching(browser, viewport={"width": 390, "height": 844}) as window:
        for name in PAGES:
            page = window.open(router.url, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_untrusted(empty_house: House, window: Watched) -> None:
    """What a node calls itself, and its models, is text, whatever it says."""
    router = empty_house.router("--host", "127.0.0.1")
    nasty = "<img src=x onerror=alert(1)>"
    router.attach(empty_house.fake(nasty.replace("/", ""), models=nasty))
    page = window.open(router.url)
    expect(card(page, nasty)).to_contain_text(nasty)
    for name in PAGES:
        assert window.open(router.url, name).locator("img").count() == 0


# -- it is for large fleets


@contextmanager
def _crowd(router: Router, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.doubles.fake_agents", "--router", router.url, "--count", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agents:
        assert agents.stdout is not None
        assert agents.stdout.readline(), "not all could register"
        yield
        agents.terminate()


def test_thousand_nodes(empty_house: House, window: Watched) -> None:
    """A thousand nodes are rows of which a few are in the page at a time, to the last one, and a search finds any."""
    router = empty_house.router("--host", "127.0.0.1")
    with _crowd(router, 1000):
        page = window.open(router.url)
        rows = page.locator("table.node-table .row")
        expect(page.locator("table.node-table")).to_have_attribute("aria-rowcount", "1001")
        for _ in range(10):
            page.mouse.wheel(0, 6_000)
            assert rows.count() < 80
        page.keyboard.press("End")
        expect(page.locator('[aria-rowindex="1001"]')).to_be_visible()
        assert rows.count() < 80
        assert page.evaluate("document.querySelectorAll('*').length") < 4_000
        page.get_by_role("searchbox").fill("borealis-0988")
        expect(rows).to_have_count(1)
