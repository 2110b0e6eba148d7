"""What a GGUF model takes of memory while llama.cpp runs it: an estimate, made before anything is started.

Its parts were compared with processes of models of 0.2 to 160 MB, vocabularies of 300 to 150,000 tokens and caches of
1 to 540 MB; tests/models/test_memory.py does it again. It leans to too much: a layer that keeps only the last few
thousand tokens (a sliding window), or none at all in some architectures, is counted as if it kept every one.

For each token that it computes at once, llama.cpp has room for a number for each token of the vocabulary. Chatting
touches next to nothing of it, since only the last token's are needed; embedding with a model made for chatting touches
it twice. It is counted once.
"""

import msgspec

from llm_router.models.gguf import Facts

NUMBER_IN_CACHE = 2  # bytes: the cache is f16 unless asked otherwise
AT_ONCE = 512  # tokens that llama.cpp computes at once (`n_ubatch`)
NUMBER = 4  # bytes: it computes in f32
WIDTHS = 16  # intermediate results that are as wide as an embedding or, in a feed-forward part, some times as wide
PROCESS = 64_000_000  # bytes: Python, llama.cpp's code, the server's threads; measured 45 to 60 MB
VOCABULARY_ENTRY = 400  # bytes: a token's text and its places in llama.cpp's tables; measured 350


class Need(msgspec.Struct, frozen=True):
    """Bytes, by what they are for."""

    weights: int
    cache: int
    computing: int
    process: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.computing + self.process

    def __str__(self) -> str:
        weights, cache, rest = (in_words(size) for size in (self.weights, self.cache, self.computing + self.process))
        return f"{in_words(self.total)} of memory: {weights} of weights, {cache} for its context, {rest} to compute in"


def need(facts: Facts, size: int, *, context: int, parallel: int) -> Need:
    """What a model of `size` bytes in files needs to answer `parallel` requests of `context` tokens each at once."""
    return Need(
        weights=size,
        cache=_cache(facts) * context * parallel,
        computing=AT_ONCE * NUMBER * (facts.vocabulary + WIDTHS * facts.embedding),
        process=PROCESS + VOCABULARY_ENTRY * facts.vocabulary,
    )


def _cache(facts: Facts) -> int:
    """Bytes that are remembered of each token. A model that reads a text at once, to embed it, remembers none."""
    if not facts.causal:
        return 0
    usual = facts.embedding // facts.heads if facts.heads else 0
    return facts.kv_heads * ((facts.key or usual) + (facts.value or usual)) * NUMBER_IN_CACHE


def in_words(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
