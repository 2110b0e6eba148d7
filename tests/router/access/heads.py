"""Heads of requests, as the gateway reads them."""

from llm_router.wire.heads import RequestHead, read_request_head


def head(method: str, path: str, host: str = "127.0.0.1:8080", /, **headers: str) -> RequestHead:
    """A request's head; `_` in a header's name stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    data = "\r\n".join([*lines, ""]).encode()
    return read_request_head(data, len(data))[0]
