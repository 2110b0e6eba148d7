"""Every error of ours, and what a caller gets to see of it.

    RouterError
    ├── ConfigError                 a setting cannot be used: the command ends with status 2
    ├── ClientError                 the caller's own fault: never blamed on a node
    │   ├── BadRequest              400 invalid_request
    │   ├── OriginNotAllowed        403 origin_not_allowed
    │   ├── Unauthorized            401 invalid_api_key
    │   ├── Forbidden               403 forbidden
    │   ├── HostNotAllowed          403 host_not_allowed
    │   ├── TooManyAttempts         429 too_many_attempts
    │   ├── NotFound                404 not_found
    │   ├── ModelNotFound           404 model_not_found
    │   ├── RequestTimeout          408 request_timeout
    │   ├── Conflict                409 already_exists
    │   ├── BodyTooLarge            413 body_too_large
    │   └── HeadTooLarge            431 head_too_large
    ├── Unavailable                 nobody can answer now; asking again later may help
    │   ├── NoNodes                 503 no_available_nodes
    │   ├── AllNodesOffline         503 all_nodes_offline
    │   ├── NoCapableNodes          503 no_capable_nodes
    │   ├── QueueFull               429 queue_full
    │   ├── QueueTimeout            504 queue_timeout
    │   ├── StillFetching           504 model_being_fetched
    │   ├── TooManyConnections      503 too_many_connections
    │   └── ShuttingDown            503 shutting_down
    ├── UpstreamError               the chosen node did not do its part
    │   ├── UpstreamFailed          502 upstream_failed
    │   └── UpstreamTimeout         504 upstream_timeout
    └── NodeError                   what `/v0/nodes` answers to agents and operators
        ├── RegistrationRefused     400 model_list_unavailable, no_executable_models, …
        ├── WrongSecret             403 wrong_secret
        ├── NodeNotFound            404 node_not_found
        └── NotExcluded             404 not_excluded

`status` is the HTTP status, `code` the word a program can compare, `kind` the class of error that the OpenAI and
Anthropic APIs call `type`; `retry_after`, in seconds, is when asking again makes sense (0: nothing is said). The shape
around them is the dialect's (`wire.dialects`). Messages say what to do next.
"""

from typing import ClassVar


class RouterError(Exception):
    """The root. `message` is written for the person who sent the request."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    kind: ClassVar[str] = "server_error"
    lines: ClassVar[bytes] = b""  # header lines that its answer has besides

    def __init__(self, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class ConfigError(RouterError):
    """A setting is missing, malformed or contradicts another."""

    code = "bad_setting"


class ClientError(RouterError):
    """The caller's own fault."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"


class BadRequest(ClientError):
    """The request cannot be read; the message says where it goes wrong."""


class OriginNotAllowed(ClientError):
    """A browser asks for a page that may not call us."""

    status = 403
    code = "origin_not_allowed"
    kind = "permission_error"


class Unauthorized(ClientError):
    """A key is needed, and there is none, or not one of ours."""

    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"
    lines = b"www-authenticate: Bearer\r\n"  # RFC 9110, section 15.5.2


class Forbidden(ClientError):
    """The key, or the person, may not do this."""

    status = 403
    code = "forbidden"
    kind = "permission_error"


class HostNotAllowed(ClientError):
    """It was asked for under a name that is not ours: a page may have made a browser believe that we are its host."""

    status = 403
    code = "host_not_allowed"
    kind = "permission_error"


class TooManyAttempts(ClientError):
    """Too many wrong keys came from one address."""

    status = 429
    code = "too_many_attempts"
    kind = "rate_limit_error"


class NotFound(ClientError):
    """No such path."""

    status = 404
    code = "not_found"
    kind = "not_found_error"


class ModelNotFound(ClientError):
    """No node lists this model, online or not."""

    status = 404
    code = "model_not_found"
    kind = "not_found_error"


class RequestTimeout(ClientError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class Conflict(ClientError):
    """What is to be made is there already."""

    status = 409
    code = "already_exists"


class BodyTooLarge(ClientError):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"
    kind = "request_too_large"


class HeadTooLarge(ClientError):
    """The request line and headers are over the limit."""

    status = 431
    code = "head_too_large"


class Unavailable(RouterError):
    """Nobody can answer now."""

    status = 503
    code = "unavailable"
    kind = "overloaded_error"


class NoNodes(Unavailable):
    """Nothing has registered yet."""

    code = "no_available_nodes"


class AllNodesOffline(Unavailable):
    """Nodes are known, none is online."""

    code = "all_nodes_offline"


class NoCapableNodes(Unavailable):
    """The model is known, but no online node can run it now."""

    code = "no_capable_nodes"


class QueueFull(Unavailable):
    """All nodes that can are busy, and as many as may wait are waiting."""

    status = 429
    code = "queue_full"
    kind = "rate_limit_error"


class QueueTimeout(Unavailable):
    """No place came free in the time that a request may wait."""

    status = 504
    code = "queue_timeout"
    kind = "api_error"


class StillFetching(Unavailable):
    """The model is on its way to a node, and was not there in the time that a request may wait."""

    status = 504
    code = "model_being_fetched"
    kind = "api_error"


class TooManyConnections(Unavailable):
    """As many clients are connected as may be."""

    code = "too_many_connections"


class ShuttingDown(Unavailable):
    """This process is about to end and takes nothing new."""

    code = "shutting_down"


class UpstreamError(RouterError):
    """A node or runtime did not do its part."""

    status = 502
    code = "upstream_failed"
    kind = "api_error"


class UpstreamFailed(UpstreamError):
    """It could not be reached, broke off, or sent what is not HTTP."""


class UpstreamTimeout(UpstreamError):
    """It was silent for too long."""

    status = 504
    code = "upstream_timeout"


class NodeError(RouterError):
    """What `/v0/nodes` answers to agents and operators."""

    status = 400
    code = "bad_node"
    kind = "node_error"


class RegistrationRefused(NodeError):
    """This node may not join, or cannot be of use; `code` is one of requirement A4's."""

    kind = "registration_error"

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class WrongSecret(NodeError):
    """The caller did not prove that it is this node."""

    status = 403
    code = "wrong_secret"
    kind = "permission_error"


class NodeNotFound(NodeError):
    """No node has this id; an agent that gets this registers again."""

    status = 404
    code = "node_not_found"
    kind = "not_found_error"


class NotExcluded(NodeError):
    """There is no such exclusion to lift."""

    status = 404
    code = "not_excluded"
    kind = "not_found_error"
