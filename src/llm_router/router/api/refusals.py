"""What a handler cannot say by its types, for the document that describes the API: refusals, and any question."""

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from llm_router.contract import ErrorBody
from llm_router.errors import RouterError


def refusals(*errors: type[RouterError]) -> dict[int, ResponseSpec]:
    """For a handler's `responses`: the errors that it raises, by status, in the words of their own docstrings."""
    by_status = groupby(sorted(errors, key=attrgetter("status")), key=attrgetter("status"))
    return {
        status: ResponseSpec(ErrorBody, generate_examples=False, description=" ".join(map(said, some)))
        for status, some in by_status
    }


def also(status: int, answer: object, description: str) -> dict[int, ResponseSpec]:
    """For a handler's `responses`: a second good answer, or one that its types do not show."""
    return {status: ResponseSpec(answer, generate_examples=False, description=description)}  # type: ignore[arg-type]  # of any type, `list[str]` too


def said(error: type[RouterError]) -> str:
    """Its code and what it means."""
    return f"`{error.code}`: {' '.join((error.__doc__ or '').split())}"


@dataclass
class AnyQuestion(Operation):
    """An operation whose body is a request of any of the inference APIs, of which it reads next to nothing."""

    def __post_init__(self) -> None:
        model = Schema(type=OpenAPIType.STRING, description="Its name, as clients write it.")
        schema = Schema(type=OpenAPIType.OBJECT, required=["model"], properties={"model": model})
        schema.examples = [{"model": "llama3:8b", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}]
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema)}, required=True)
