"""Messages with something wrong, drawn from dice: the same dice give the same bytes."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

# What parsers stumble over, and beginnings of other messages.
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b":",
    b": ",
    b";",
    b",",
    b"+",
    b"-",
    b"0",
    b"_",
    b"\x7f",
    b"\x85",
    b"\xff\xfe",
    b"0\r\n\r\n",
    b"5\r\nabcde\r\n",
    b"ffffffffffffffff\r\n",
    b"Content-Length: 5\r\n",
    b"\r\nContent-Length: 13",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:\tChunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b" folded\r\n",
    b"X" * 70,
    b"HTTP/1.1 200 OK\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
]


def _flip(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + dice.randbytes(1) + data[at + 1 :]


def _case(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + data[at : at + 9].swapcase() + data[at + 9 :]


def _insert(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(PIECES) + data[at:]


def _remove(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + data[at + dice.randint(1, 8) :]


def _insert_line(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(PIECES).strip(b"\r\n"))
    return b"\r\n".join(lines)


def _repeat_line(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
    return b"\r\n".join(lines)


def _drop_line(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    del lines[dice.randrange(len(lines))]
    return b"\r\n".join(lines)


def _digit(data: bytes, dice: random.Random) -> bytes:
    places = [at for at, byte in enumerate(data) if byte in b"0123456789"]
    at = dice.choice(places) if places else 0
    return data[:at] + b"%d" % dice.choice([0, 1, 5, 9, 13, 99, 10**20]) + data[at + 1 :]


_CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    _flip,
    _case,
    _insert,
    _insert,
    _remove,
    _insert_line,
    _repeat_line,
    _drop_line,
    _digit,
]


def mutated(messages: Sequence[bytes], dice: random.Random) -> bytes:
    """One to three of the messages on end, with up to three changes; never empty."""
    data = b"".join(dice.choices(messages, k=dice.randint(1, 3)))
    for _ in range(dice.randint(0, 3)):
        data = dice.choice(_CHANGES)(data, dice) or b"\r\n"
    return data


def sliced(data: bytes, dice: random.Random) -> list[bytes]:
    """The same bytes in up to six pieces."""
    places = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(dice.randint(0, 5)))})
    return [data[begin:end] for begin, end in pairwise(places)]
