"""Model names: what a request's `model` means.

Ids match exactly (requirement C5). For the Ollama API a name without a tag means `:latest`, and the two spellings are
one model (Ollama, `types/model/name.go`: the default tag is `latest`).
"""

from collections.abc import Container

LATEST = ":latest"


def spellings(name: str, *, tags: bool) -> tuple[str, ...]:
    """The ids that `name` may stand for, likeliest first. `tags`: the caller speaks the Ollama API."""
    if not tags:
        return (name,)
    if name.endswith(LATEST):
        return (name, name.removesuffix(LATEST))
    last = name.rsplit("/", 1)[-1]  # a colon before the last slash belongs to a registry's port
    return (name,) if ":" in last else (name, name + LATEST)


def resolve(name: str, known: Container[str], *, tags: bool) -> str:
    """The first spelling that is known, else `name` itself."""
    if name in known:
        return name
    for spelling in spellings(name, tags=tags):
        if spelling in known:
            return spelling
    return name
