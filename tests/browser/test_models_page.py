"""The models page (requirements F3, G5, H6): registered, fetched, placed and deleted by a person in a real browser.

A real router and two real nodes, and a hub of models beside them, which holds still half-way through a file when told.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.browser.conftest import Watched, watching
from tests.browser.test_dashboard import SOON, _findings
from tests.system.harness import House, Process, Router, call, eventually, house_in

from llm_router.node.models.builtin import model_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HUB = Path(__file__).parents[1] / "doubles" / "hub.py"
NODES = ("node-a", "node-b")
ONE, SEVERAL = "org/hello-GGUF", "org/several-GGUF"
MODEL = model_bytes()
FETCHED = 60_000  # milliseconds for a model to reach a node on a busy machine


class Hub(Process):
    """`tests/doubles/hub.py`. `cdn`: where it sends those who want a file."""

    def start(self) -> Self:
        super().start()
        assert self.process.stdout is not None
        self.cdn = self.process.stdout.readline().decode().strip()
        return self

    def hold(self, offset: int) -> None:
        """Stand still before this byte of every file, until `release`."""
        assert call(self.url, "POST", "/_options", {"hold": offset}).status == 204

    def release(self) -> None:
        assert call(self.url, "POST", "/_release").status == 204
        assert call(self.url, "POST", "/_options", {}).status == 204


class Stage:
    """What the tests play on. Each has models of its own, so that none sees another's."""

    def __init__(self, house: House) -> None:
        files = house.directory / "hub"
        for repo, quantizations in ((ONE, ["Q4_0"]), (SEVERAL, ["Q4_0", "Q8_0"])):
            (files / repo).mkdir(parents=True)
            for quantization in quantizations:
                (files / repo / f"hello-{quantization}.gguf").write_bytes(MODEL)
        self.hub = Hub("hub", [sys.executable, str(HUB), str(files)], house.directory)
        house.processes.append(self.hub.start())
        origins = ["--model-origins", f"{self.hub.url}/*", "--model-origins", f"{self.hub.cdn}/*"]
        self.router: Router = house.router("--hf-endpoint", self.hub.url, *origins)
        for name in NODES:
            house.node(self.router, name)
        eventually(lambda: self.router.is_online(*NODES), 60)

    def register(self, name: str, **fields: object) -> None:
        """Register a model as somebody else would; return when all nodes know of it."""
        answer = call(self.router.url, "POST", "/v0/models", {"repo": ONE, "name": name} | fields)
        assert answer.status == 201, answer
        eventually(lambda: all(name in node.models for node in self.router.nodes().values()), 60)

    def catalogue(self) -> dict[str, Any]:
        """What the router has registered, by name."""
        return {entry["name"]: entry for entry in call(self.router.url, "GET", "/v0/models").json()}

    def pull(self, name: str, node: str) -> None:
        answer = call(self.router.url, "POST", f"/api/pull?node={node}", {"model": name, "stream": False})
        assert answer.status == 200, answer
        eventually(lambda: self.holds(node, name), 60)

    def holds(self, node: str, name: str) -> bool:
        view = self.router.node(node)
        return name in view.models and name not in view.offered


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with house_in(tmp_path_factory.mktemp("models")) as house:
        yield Stage(house)


def card(page: Page, title: str) -> Locator:
    return page.locator("lr-model-card", has=page.get_by_role("button", name=title, exact=True))


def opened(page: Page, title: str) -> Locator:
    """The pane of a model of the catalogue."""
    card(page, title).get_by_role("button", name=title, exact=True).click()
    return page.locator("dialog.drawer")


def form(page: Page, source: str) -> Locator:
    """The form for a new model, with where it comes from."""
    page.get_by_role("button", name="Add a model").first.click()
    box = page.locator("dialog.box")
    box.get_by_label("Repository or address").fill(source)
    return box


def submit(box: Locator) -> None:
    box.get_by_role("button", name="Add", exact=True).click()


def forgive(window: Watched) -> None:
    """The browser notes every refusal that a page gets; one was asked for."""
    assert window.wrong
    assert all("Failed to load resource" in said for said in window.wrong)
    window.wrong.clear()


# -- the catalogue


def test_added_and_fetched(stage: Stage, window: Watched) -> None:
    """F3, G5: a model is registered, a node is told to fetch it, the progress is seen, and then it is stored there."""
    page = window.open(stage.router.url, "models")
    box = form(page, ONE)
    box.get_by_label("Name", exact=True).fill("greeter")
    submit(box)
    pane = page.locator("dialog.drawer")
    expect(pane.get_by_role("heading", name="greeter", exact=True)).to_be_visible()
    expect(pane).to_contain_text("Q4_0")
    stage.hub.hold(len(MODEL) // 2)
    pane.get_by_label("Have a node fetch it").select_option("node-b", timeout=FETCHED)
    pane.get_by_role("button", name="Fetch", exact=True).click()
    expect(pane.locator("lr-progress")).to_contain_text("%", timeout=FETCHED)
    expect(card(page, "greeter").locator("lr-progress")).to_contain_text("node-b")
    stage.hub.release()
    expect(pane.locator(".place-row", has_text="node-b")).to_contain_text("Stored", timeout=FETCHED)
    expect(card(page, "greeter").locator(".chip.stored")).to_have_text("node-b (Stored)")
    assert stage.holds("node-b", "greeter")


def test_one_of_several_files(stage: Stage, window: Watched) -> None:
    """H6: where a repository has several models the form shows the files with their sizes, and one is chosen there."""
    page = window.open(stage.router.url, "models")
    box = form(page, SEVERAL)
    box.get_by_label("Name", exact=True).fill("chosen")
    submit(box)
    expect(box.get_by_role("alert")).to_contain_text("2 quantisations")
    expect(box.get_by_role("radio", name="hello-Q4_0.gguf")).to_be_focused()
    box.get_by_role("radio", name="hello-Q8_0.gguf").check()
    submit(box)
    expect(card(page, "chosen")).to_contain_text("Q8_0")
    forgive(window)


def test_policy(stage: Stage, window: Watched) -> None:
    """H6: a policy chooses among several files, and nothing more is asked."""
    page = window.open(stage.router.url, "models")
    box = form(page, SEVERAL)
    box.get_by_label("Of several files").select_option("Least memory")
    box.get_by_label("Name", exact=True).fill("smallest")
    submit(box)
    expect(card(page, "smallest")).to_be_visible()
    assert stage.catalogue()["smallest"]["files"]


def test_refused(stage: Stage, window: Watched) -> None:
    """What the router says against a new model stands at the form, which keeps what was typed."""
    page = window.open(stage.router.url, "models")
    box = form(page, "org/no-such-thing")
    submit(box)
    expect(box.get_by_role("alert")).to_contain_text("no-such-thing")
    expect(box.get_by_label("Repository or address")).to_have_value("org/no-such-thing")
    expect(box.get_by_role("button", name="Add", exact=True)).to_be_enabled()
    forgive(window)


def test_changed_elsewhere(stage: Stage, window: Watched) -> None:
    """A model that somebody else registers or removes comes and goes within two seconds; its name is text."""
    page = window.open(stage.router.url, "models")
    expect(page.get_by_role("heading", name="Catalogue")).to_be_visible()
    nasty = "<img src=x onerror=alert(1)>"
    stage.register("others", display_name=nasty)
    expect(card(page, nasty)).to_be_visible(timeout=SOON)
    assert page.locator("img").count() == 0
    assert call(stage.router.url, "DELETE", "/v0/models/others").status == 204
    expect(card(page, nasty)).to_have_count(0, timeout=SOON)


def test_placement(stage: Stage, window: Watched) -> None:
    """F3: a model is set to be kept on two nodes, and soon it is on both of them; then it is on demand again."""
    stage.register("everywhere")
    page = window.open(stage.router.url, "models")
    pane = opened(page, "everywhere")
    pane.get_by_role("radio", name="Kept on nodes").check()
    pane.get_by_label("Number of nodes").fill("2")
    pane.get_by_label("Display name").fill("Everywhere")
    pane.get_by_role("button", name="Save").click()
    expect(card(page, "Everywhere")).to_contain_text("Kept on 2 nodes")
    expect(card(page, "Everywhere").locator(".chip.stored")).to_have_count(2, timeout=FETCHED)
    expect(card(page, "Everywhere")).not_to_contain_text("to go")
    assert stage.catalogue()["everywhere"]["placement"] == {"nodes": 2, "pinned": [], "preload": False}
    pane.get_by_role("radio", name="On demand").check()
    pane.get_by_role("button", name="Save").click()
    expect(card(page, "Everywhere")).to_contain_text("On demand")
    assert stage.catalogue()["everywhere"]["placement"] == {"nodes": 1, "pinned": [], "preload": False}


def test_pinned(stage: Stage, window: Watched) -> None:
    """F3: a new model can be pinned to a node from the beginning, and arrives there by itself."""
    page = window.open(stage.router.url, "models")
    box = form(page, ONE)
    box.get_by_label("Name", exact=True).fill("pinned")
    box.get_by_role("radio", name="Kept on nodes").check()
    box.get_by_label("Number of nodes").fill("1")
    box.get_by_role("checkbox", name="node-a").check()
    submit(box)
    expect(card(page, "pinned")).to_contain_text("Pinned to node-a")
    eventually(lambda: stage.holds("node-a", "pinned"), 60)
    assert not stage.holds("node-b", "pinned")


# -- on the nodes


def test_deleted_from_a_node(stage: Stage, window: Watched) -> None:
    """F3: a model is deleted from a node, after a question; it stays in the catalogue, to be fetched again."""
    stage.register("passing")
    stage.pull("passing", "node-a")
    page = window.open(stage.router.url, "models")
    pane = opened(page, "passing")
    pane.get_by_role("button", name="Delete passing from node-a").click()
    page.locator("dialog.box").get_by_role("button", name="Delete").click()
    expect(pane.locator(".place-row")).to_have_count(0, timeout=FETCHED)
    assert "passing" in stage.catalogue()
    eventually(lambda: "passing" in stage.router.node("node-a").offered)


def test_removed(stage: Stage, window: Watched) -> None:
    """F3: a model is removed from the catalogue, and from the nodes where that is wished; then nobody lists it."""
    stage.register("leaving")
    stage.pull("leaving", "node-a")
    page = window.open(stage.router.url, "models")
    pane = opened(page, "leaving")
    pane.get_by_role("button", name="Remove from the catalogue").click()
    page.get_by_role("checkbox", name="Delete its files").check()
    page.locator("dialog.box").get_by_role("button", name="Remove").click()
    expect(card(page, "leaving")).to_have_count(0)
    expect(page.locator("dialog")).to_have_count(0)
    eventually(lambda: all("leaving" not in node.models for node in stage.router.nodes().values()), 60)


def test_asked_for_first(stage: Stage, window: Watched) -> None:
    """What no node has is shown as such, and the first question has it fetched and is answered."""
    stage.register("sleeper")
    page = window.open(stage.router.url, "models")
    expect(card(page, "sleeper")).to_contain_text("Fetched first")
    expect(page.get_by_role("row", name="sleeper")).to_contain_text("Fetched at the first request")
    page.get_by_role("row", name="sleeper").get_by_role("link", name="Try sleeper").click()
    note = page.locator(".page-try .row-note")
    expect(note).to_have_text("Fetched at the first request")
    stage.hub.hold(len(MODEL) // 2)
    page.get_by_label("Message").fill("Who are you?")
    page.keyboard.press("Enter")
    expect(page.locator("lr-answer lr-progress")).to_contain_text("fetches it first", timeout=FETCHED)
    stage.hub.release()
    expect(page.locator("lr-answer .bubble")).to_contain_text("Hello!", timeout=FETCHED)
    expect(page.locator("lr-answer lr-progress")).to_be_hidden()
    expect(note).to_be_hidden(timeout=FETCHED)


def test_node_pane(stage: Stage, window: Watched) -> None:
    """A node's pane keeps apart what it has and what it would have to fetch first."""
    stage.register("elsewhere")
    page = window.open(stage.router.url)
    page.get_by_role("button", name="node-a", exact=True).click()
    pane = page.locator("dialog.drawer")
    expect(pane.get_by_role("heading", name="Fetched at the first request")).to_be_visible()
    expect(pane.locator(".chip.offered", has_text="elsewhere")).to_be_visible()


# -- for everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(stage: Stage, browser: Browser, scheme: str) -> None:
    """Of axe's findings none is serious or critical, in the pane, in the form and in its choice of files."""
    if "readable" not in stage.catalogue():
        stage.register("readable")
    for width in (1280, 390):
        with watching(browser, color_scheme=scheme, viewport={"width": width, "height": 844}) as window:
            page = window.open(stage.router.url, "models")
            opened(page, "readable").get_by_role("radio", name="Kept on nodes").check()
            assert not _findings(page)
            page.keyboard.press("Escape")
            box = form(page, SEVERAL)
            submit(box)
            expect(box.get_by_role("radio", name="hello-Q4_0.gguf")).to_be_visible()
            assert not _findings(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            forgive(window)


def test_keyboard(stage: Stage, window: Watched) -> None:
    """Without a mouse: a card opens its pane, which takes the focus and gives it back."""
    stage.register("keyed")
    page = window.open(stage.router.url, "models")
    opener = card(page, "keyed").get_by_role("button", name="keyed", exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()


def test_every_text_is_in_both_languages(stage: Stage, window: Watched) -> None:
    """F5: what is said in English is said in Japanese, with the same names filled in."""
    page = window.open(stage.router.url, "models")
    different = page.evaluate(
        """async () => {
            const words = async (tag) => {
                const { default: texts } = await import(`/dashboard/${tag}.js`);
                const base = (key) => key.replace(/\\.(one|other)$/, "");
                const named = (text) => (text.match(/\\{\\w+\\}/g) ?? []).sort().join();
                return new Map(Object.entries(texts).map(([key, text]) => [base(key), named(text)]));
            };
            const [en, ja] = [await words("en"), await words("ja")];
            return [...new Set([...en.keys(), ...ja.keys()])].filter((key) => en.get(key) !== ja.get(key));
        }"""
    )
    assert different == []
