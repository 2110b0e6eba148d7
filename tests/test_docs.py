"""What exists is documented, what is documented exists (style: documentation is tested).

That the commands do what the pages say is tested in `tests/docs`.
"""

import re
import tomllib
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, RUN, SHOWN, Step, steps
from tools.reference import calls, commands, errors
from tools.reference.blocks import BLOCKS
from tools.reference.markdown import anchor
from tools.reference.pages import PAGES as REFERENCE
from tools.reference.pages import filled, parts

from llm_router.config import NodeConfig, RouterConfig
from llm_router.errors import NodeError
from llm_router.router.api.schema import operations

GENERATED = sorted(REFERENCE.glob("*.md"))
DOCS = "\n".join(page.read_text("utf-8") for page in PAGES)
LINKING = [*PAGES, ROOT / "CHANGELOG.md", *sorted({*ROOT.glob("*/README.md")} - {*PAGES})]
BLOCKS_OF = [(page, step) for page in PAGES for step in steps(page.read_text("utf-8")) if not step.ends]


def name(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else ""


@pytest.mark.parametrize("page", GENERATED, ids=name)
def test_the_reference_is_what_the_code_says(page: Path) -> None:
    """What stands in a generated part is what `make docs` would write there."""
    text = page.read_text("utf-8")
    assert filled(text) == text, "run `make docs`"


def test_the_reference_is_whole() -> None:
    """Every part that can be generated stands on one page."""
    found = [part for page in GENERATED for part in parts(page.read_text("utf-8"))]
    assert sorted(found) == sorted(BLOCKS)


def test_no_setting_that_is_not_there() -> None:
    """An environment variable that the documentation names exists."""
    known = {s.env for config in (RouterConfig, NodeConfig) for s in config.settings()}
    known |= {str(option.envvar) for _, command in commands.walk() for option in command.params}
    named = set(re.findall(r"\bLLM_(?:ROUTER|NODE)_[A-Z_]*[A-Z]", DOCS))
    assert named <= known


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "README.ja.md"], ids=name)
def test_the_readme_names_every_command(page: Path) -> None:
    """Each by its words, `llm-router nodes` once for what follows it."""
    text = page.read_text("utf-8")
    for line, _ in commands.walk():
        *group, last = line.split()
        assert line in text or (" ".join(group) in text and f"`{last}`" in text), line


def test_every_call_is_explained() -> None:
    """Each call stands somewhere else, too, where it is told what it is about."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.name != "calls.md")
    found = [f"{method.upper()} {path}" for path, method, _ in operations(calls.document())]
    for call in found:
        assert re.search(re.escape(f"`{call.replace('{model_id}', '{id}')}") + "[`?]", text), call


@pytest.mark.parametrize("error", sorted({e.code for e in errors.classes()} - {NodeError.code}))
def test_errors(error: str) -> None:
    """Every error code that a client can get is in the documentation."""
    assert f"`{error}`" in DOCS


# -- blocks


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_understood(page: Path) -> None:
    """Each fence begins or ends a block, of a language of which we know whether readers type it."""
    text = page.read_text("utf-8")
    found = [step for step in steps(text) if not step.ends]
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found)
    assert {step.language for step in found} <= RUN | SHOWN
    assert all(step.is_typed or step.not_run == step.stays == step.shows == "" for step in found)


def test_every_command_is_run_or_says_why_not() -> None:
    """What is not run has a reason; what shows a command's prompt is taken for one, and so is run."""
    assert all(len(step.not_run) > 5 for _, step in BLOCKS_OF if step.not_run)
    assert not [step for _, step in BLOCKS_OF if not step.is_typed and re.search(r"^\$ ", step.text, re.MULTILINE)]
    assert sum(step.is_run for _, step in BLOCKS_OF) > 20


@pytest.mark.parametrize(("page", "step"), [(p, s) for p, s in BLOCKS_OF if s.language == "toml"], ids=name)
def test_files_of_settings(page: Path, step: Step) -> None:
    """A file of settings that a page shows can be used."""
    known = {s.name for config in (RouterConfig, NodeConfig) for s in config.settings()}
    assert tomllib.loads(step.text).keys() <= known, page


# -- links


def anchors(page: Path) -> set[str]:
    """What a link into a page may name."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def links(text: str) -> list[tuple[str, str]]:
    """(file, anchor) of each link to something of ours, pictures too."""
    found = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text)
    ours = [(a or b).partition("#") for a, b in found if not re.match(r"\w+:", a or b)]
    return [(file, name) for file, _, name in ours]


@pytest.mark.parametrize("page", LINKING, ids=name)
def test_links(page: Path) -> None:
    """A link to a file of ours, or to a heading in it, leads somewhere."""
    for file, heading in links(page.read_text("utf-8")):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        assert not heading or heading in anchors(target), f"{file}#{heading}"


def test_what_is_named_is_there() -> None:
    """A test or a page that documentation or code names by its path exists."""
    places = ("src/**/*.py", "tests/**/*.py", "bench/**/*.py", "deploy/**/*.*", "packaging/**/*.*", "docs/*.md")
    code = [file for place in places for file in ROOT.glob(place) if file.suffix not in (".png", ".ico", ".pyc")]
    texts = [DOCS, *(file.read_text("utf-8") for file in code)]
    theirs = {"docs/api.md", "docs/gguf.md"}  # of Ollama and of ggml, as sources
    named = {path for text in texts for path in re.findall(r"\b(?:tests|docs)/[\w/-]+\.(?:py|md)\b", text)} - theirs
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_page_is_found() -> None:
    """The index of the documentation leads to each page."""
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / file).resolve() for file, _ in links(index.read_text("utf-8"))}
    assert {page for page in (ROOT / "docs").rglob("*.md") if page not in listed} == {index}
