"""`python -m tools.reference`: writes the generated parts of docs/reference anew."""

from tools.reference.pages import PAGES, filled


def main() -> None:
    """Write every page whose generated parts have changed, and name it."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text("utf-8")
        if (new := filled(text)) != text:
            page.write_text(new, "utf-8")
            print(page)  # noqa: T201 - a command says what it did


if __name__ == "__main__":
    main()
