# ruff: noqa: INP001 - a script, which the image starts by its path
"""Ends with 0 if what runs in this container answers `GET /health`, be it a router or a node.

Without the network's proxies, which `urllib` would ask, and without a look at the certificate: it is our own port.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT = 4.0  # seconds; the Dockerfile gives up after five
SIDES = (("LLM_ROUTER", "8080"), ("LLM_NODE", "11435"))  # how their settings begin, and the ports without one


def is_well(prefix: str, port: str) -> bool:
    """Whether this side listens here and is well."""
    number = int(os.environ.get(f"{prefix}_PORT") or port)
    if os.environ.get(f"{prefix}_TLS_CERT"):
        anybody = ssl._create_unverified_context()  # noqa: S323, SLF001 - documented in PEP 476; it is our own port
        connection: HTTPConnection = HTTPSConnection("127.0.0.1", number, timeout=TIMEOUT, context=anybody)
    else:
        connection = HTTPConnection("127.0.0.1", number, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not any(is_well(*side) for side in SIDES))
