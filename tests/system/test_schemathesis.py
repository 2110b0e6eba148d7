"""The API is what its document says: schemathesis makes up thousands of requests from it, and looks at the answers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.system import only_here
from tests.system.harness import House, call

from llm_router.node.models.builtin import model_bytes
from llm_router.router.api.examples import EXAMPLES, PARAMETERS
from llm_router.router.models.entry import FileView, NewModel

SECONDS = 40  # of fuzzing; what it does before that takes some more
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
PROGRAM = shutil.which("schemathesis", path=Path(sys.executable).parent)


@pytest.mark.slow
def test_the_api_is_what_its_document_says(house: House) -> None:
    """Issue 7: no 5xx, and every answer has a status, a type and a shape that the document names for it.

    The router knows a node that is there all the time, and the example's; and a hub that has the example's model.
    """
    fake = house.fake(kind="both", models="llama3:8b")
    entry, file = EXAMPLES["NewModel"], EXAMPLES["FileView"]
    assert isinstance(entry, NewModel)
    assert isinstance(file, FileView)
    house.publish(f"{entry.repo}/{file.name}", model_bytes())
    router = house.router(*house.hub().options())
    router.attach(fake)
    assert PROGRAM is not None
    command = [PROGRAM, "--no-color", "run", f"{router.url}/schema/openapi.json", "--checks", ",".join(CHECKS)]
    limits = ["--max-time", str(SECONDS), "--seed", "7", "--continue-on-failure", "--request-timeout", "20"]
    environment = {"SCHEMATHESIS_HOOKS": only_here.__name__, "RUNTIME": fake.url.rsplit(":", 1)[1]}
    done = subprocess.run(
        [*command, *limits],
        cwd=house.directory,
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert PARAMETERS["node_id"] in router.text()
    assert "control.failed" not in router.text()
    assert call(router.url, "GET", "/health").status == 200
