"""Settings: defaults < TOML file < environment < command line. Each one is documented where it is declared.

A field's environment variable is the class's prefix and its name in capitals (`RouterConfig.port`: LLM_ROUTER_PORT), or
the one that people already use, named in the declaration. The file is `<home>/router.toml` or `<home>/node.toml`.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_origin

import msgspec
import platformdirs
from msgspec import Meta, Struct

from llm_router.errors import ConfigError

MB = 1_000_000
DEFAULT_ROUTER_PORT = 8080  # requirement I1
DEFAULT_NODE_PORT = 11435  # beside Ollama's 11434

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(ge=0)]


def default_home() -> Path:
    """Where state lives when nobody says: the platform's place for an application's data."""
    return Path(os.environ.get("LLM_ROUTER_HOME") or platformdirs.user_data_path("llm-router", appauthor=False))


def declared(description: str, *, env: str = "", secret: bool = False) -> Meta:
    """A setting's documentation, and its environment variable where that is not derived from its name.

    A `secret` has no option: everybody on a machine can see its command lines.
    """
    return Meta(description=description, extra={"env": env, "secret": secret})


class Setting(Struct, frozen=True):
    """One declared setting, as the command line and the documentation show it."""

    name: str
    type: Any
    default: Any
    description: str
    env: str
    secret: bool


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both sides have: a listener and its limits."""

    prefix: ClassVar[str]
    file_name: ClassVar[str]

    home: Annotated[Path, declared("Directory for all state of this machine.", env="LLM_ROUTER_HOME")] = msgspec.field(
        default_factory=default_home
    )
    host: Annotated[str, declared("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, declared("Port to listen on.")] = DEFAULT_ROUTER_PORT
    log_level: Annotated[Literal["debug", "info", "warning", "error"], declared("Least severe log lines to print.")] = (
        "info"
    )
    log_format: Annotated[Literal["console", "json"], declared("Log lines for people, or one JSON object each.")] = (
        "console"
    )
    origins: Annotated[
        list[str],
        declared("Web pages that may call, besides those of this machine: scheme://host[:port].", env="OLLAMA_ORIGINS"),
    ] = msgspec.field(default_factory=list)
    tls_cert: Annotated[str, declared("Certificate (PEM, with its chain): HTTPS instead of HTTP.")] = ""
    tls_key: Annotated[str, declared("Its private key (PEM), where the certificate's file does not have it.")] = ""
    trust: Annotated[list[str], declared("Addresses of clients that count as this machine's and need no key.")] = (
        msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    )
    max_connections: Annotated[
        int, Meta(ge=0), declared("Connections of clients; 0: half of the limit of open files, less some.")
    ] = 0
    max_head: Annotated[int, Meta(ge=1), declared("Largest request line and headers, in bytes.")] = 64 * 1024
    max_headers: Annotated[int, Meta(ge=1), declared("Headers that a request may have.")] = 100
    max_body: Annotated[int, Meta(ge=1), declared("Largest request body, in bytes.")] = 100 * MB
    head_timeout: Annotated[Seconds, declared("Seconds for a request's head to arrive in.")] = 10.0
    body_timeout: Annotated[Seconds, declared("Seconds a request's body may stand still.")] = 30.0
    idle_timeout: Annotated[Seconds, declared("Seconds an idle keep-alive connection is held.")] = 75.0
    connect_timeout: Annotated[Seconds, declared("Seconds for a connection to a node or runtime.")] = 5.0
    answer_timeout: Annotated[
        Seconds, declared("Seconds a node or runtime has to begin its answer; 0: as long as it is online.")
    ] = 0.0
    token_timeout: Annotated[Seconds, declared("Seconds an answer may stand still; 0: any time.")] = 120.0
    queue_size: Annotated[int, Meta(ge=0), declared("Requests that may wait for one model; 0: none waits.")] = 100
    queue_timeout: Annotated[Seconds, declared("Seconds a request may wait for a free slot.")] = 60.0
    fetch_timeout: Annotated[
        Seconds, declared("Seconds a request that is no stream waits for its model to be fetched; 0: any time.")
    ] = 300.0
    drain_timeout: Annotated[Seconds, declared("Seconds that requests in flight have at shutdown.")] = 30.0
    model_origins: Annotated[
        list[str], declared("Where models may be fetched from: host/path, with * for any characters. Empty: nowhere.")
    ] = msgspec.field(default_factory=lambda: ["huggingface.co/*", "*.huggingface.co/*", "*.hf.co/*"])
    hf_token: Annotated[str, declared("Token that Hugging Face is shown.", env="HF_TOKEN", secret=True)] = ""

    @classmethod
    def settings(cls) -> list[Setting]:
        """Every setting, in the order of declaration."""
        found = []
        for field in msgspec.structs.fields(cls):
            description, env, secret = _documentation(field.type)
            env = env or cls.prefix + field.name.upper()
            default = field.default if field.default is not msgspec.NODEFAULT else None
            found.append(Setting(field.name, field.type, default, description, env, secret))
        return found

    @classmethod
    def load(cls, flags: Mapping[str, object], env: Mapping[str, str] = os.environ) -> Self:
        """Put the sources together. `flags`: what the command line gave, None or absent where it gave nothing.

        Raises:
            ConfigError: a value cannot be used; the message names the setting and where it came from.
        """
        from_flags = {k: list(v) if isinstance(v, tuple) else v for k, v in flags.items() if v not in (None, ())}
        from_env = {s.name: env[s.env] for s in cls.settings() if env.get(s.env)}
        home = Path(str(from_flags.get("home") or from_env.get("home") or default_home()))
        from_file = _read_toml(home / cls.file_name)
        values: dict[str, object] = {"home": home} | from_file | _split_lists(cls, from_env) | from_flags
        try:
            return msgspec.convert(values, cls, strict=False, dec_hook=_to_path)
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `$.")
            name = path.rstrip("`").split("[")[0]
            if not path:  # an unknown name, which only the file can hold
                raise ConfigError(f"{home / cls.file_name}: {what}") from error
            where = _source(cls, name, from_flags, from_env) or home / cls.file_name
            reason = what.partition(", got ")[0].replace("Expected", "expected").replace("Invalid", "invalid")
            raise ConfigError(f"{where} is {values[name]!r}: {reason}") from error


class RouterConfig(Config, frozen=True, kw_only=True):
    """`llm-router serve`."""

    prefix = "LLM_ROUTER_"
    file_name = "router.toml"

    host: Annotated[str, declared("Address to listen on; 127.0.0.1 for this machine alone.")] = "0.0.0.0"
    database_url: Annotated[
        str,
        declared(
            "Database of this router and its replicas: postgresql+asyncpg://…; a file of its own where not given.",
            secret=True,
        ),
    ] = ""
    workers: Annotated[
        int, Meta(ge=1, le=64), declared("Processes on this port; more than one need `database_url`.")
    ] = 1
    policy: Annotated[
        Literal["expected-latency", "least-requests", "metrics", "round-robin"],
        declared("Which of the nodes that can answer gets a request."),
    ] = "expected-latency"
    decode_weight: Annotated[
        float,
        Meta(ge=0, le=1),
        declared("What a second of decode counts for expected-latency: 0 a quick first token, 1 a quick whole answer."),
    ] = 0.3
    auth: Annotated[
        Literal["auto", "always", "off"],
        declared("Who needs an API key: auto all but this machine's clients, always all, off nobody."),
    ] = "auto"
    hosts: Annotated[
        list[str], declared("Names by which it may be called without a key, besides this machine's own.")
    ] = msgspec.field(default_factory=list)
    join: Annotated[
        Literal["token", "open"],
        declared("Which nodes may join: those of this machine, with the token or approved; or all."),
    ] = "token"
    join_token: Annotated[
        str, declared("Token by which nodes join; the router makes one where not given.", secret=True)
    ] = ""
    retention_days: Annotated[
        float, Meta(ge=0), declared("Days for which requests and events are kept; 0: for ever.")
    ] = 7.0
    log_bodies: Annotated[bool, declared("Whether prompts and answers are kept with the requests.")] = False
    trial_after: Annotated[Seconds, declared("Seconds until a model that failed on a node is tried there.")] = 30.0
    silence: Annotated[Seconds, declared("Seconds without a heartbeat after which a node is offline.")] = 20.0
    announce: Annotated[bool, declared("Whether nodes in the network can find it by themselves (mDNS).")] = True
    probe_every: Annotated[Seconds, declared("Seconds between checks of attached servers.")] = 5.0
    pull_timeout: Annotated[Seconds, declared("Seconds for a node's list of models to arrive in.")] = 5.0
    hf_endpoint: Annotated[str, declared("The hub of the model catalogue.", env="HF_ENDPOINT")] = (
        "https://huggingface.co"
    )
    keep_models: Annotated[
        bool, declared("Whether files that the router fetched for nodes stay with it, for the next ones.")
    ] = False
    pull_to: Annotated[
        Literal["one", "all"], declared("Which nodes `ollama pull` fetches a model to: the best, or all that can.")
    ] = "one"


class NodeConfig(Config, frozen=True, kw_only=True):
    """`llm-router node`."""

    prefix = "LLM_NODE_"
    file_name = "node.toml"

    host: Annotated[
        str,
        declared(
            "Address to listen on; where not given, all, or this machine's alone if the router is said to be here."
        ),
    ] = ""
    port: Annotated[Port, declared("Port to listen on.")] = DEFAULT_NODE_PORT
    router: Annotated[
        str, declared("The router's URL; where not given, one is looked for here and in the network.", env="ROUTER_URL")
    ] = ""
    runtime: Annotated[
        list[str],
        declared(
            "What runs models here: llamacpp, ollama (the node's own), ollama=URL or openai=URL; may be given several"
            " times. Where not given: llamacpp, and ollama as soon as it can be had."
        ),
    ] = msgspec.field(default_factory=list)
    name: Annotated[str, declared("Name shown for this machine; its host name where not given.")] = ""
    advertise: Annotated[str, declared("Address the router shall use; the one it sees where not given.")] = ""
    memory: Annotated[
        int, Meta(ge=0), declared("Bytes that models may take of this machine's memory; 0: what it can spare.")
    ] = 0
    parallel: Annotated[int, Meta(ge=1, le=64), declared("Requests that one llama.cpp model answers at once.")] = 4
    context: Annotated[int, Meta(ge=256), declared("Tokens of context for each of them.")] = 4096
    threads: Annotated[int, Meta(ge=0), declared("Compute threads of a llama.cpp process; 0: half the processors.")] = 0
    preload: Annotated[list[str], declared("Models that llama.cpp loads at the start.")] = msgspec.field(
        default_factory=list
    )
    keep_alive: Annotated[
        str,
        declared(
            "How long an unused model stays in memory: 5m, 1h, seconds; 0: not at all, -1: for ever.",
            env="OLLAMA_KEEP_ALIVE",
        ),
    ] = "5m"
    shared_models_dir: Annotated[
        str, declared("Directory with models for several machines, which are used where they lie.")
    ] = ""
    llama_server: Annotated[
        str, declared("A llama-server to use; where not given, the one on PATH if it is newer or uses the GPU.")
    ] = ""
    ollama_download_url: Annotated[
        str, declared("Where Ollama's releases are fetched from.", env="OLLAMA_DOWNLOAD_URL")
    ] = "https://github.com/ollama/ollama/releases"
    ollama_version: Annotated[
        str, declared("The Ollama to have; the latest where not given.", env="OLLAMA_VERSION")
    ] = ""
    ollama_verify_checksum: Annotated[
        bool, declared("Whether what was fetched is checked against the release.", env="OLLAMA_VERIFY_CHECKSUM")
    ] = True
    ollama_download_max_retries: Annotated[
        int, Meta(ge=0), declared("Attempts more when fetching Ollama fails.", env="OLLAMA_DOWNLOAD_MAX_RETRIES")
    ] = 5
    ollama_download_max_backoff_secs: Annotated[
        Seconds,
        declared("Longest pause between them, in seconds.", env="OLLAMA_DOWNLOAD_MAX_BACKOFF_SECS"),
    ] = 60.0
    ollama_startup_timeout_secs: Annotated[
        Seconds, declared("Seconds for the node's Ollama to begin to answer.", env="OLLAMA_STARTUP_TIMEOUT_SECS")
    ] = 60.0
    ollama_host: Annotated[
        str,
        declared("Address of the node's own Ollama; a free port where not given, or taken.", env="OLLAMA_HOST"),
    ] = ""
    ollama_models: Annotated[
        str, declared("Directory of its models; one of the node's own where not given.", env="OLLAMA_MODELS")
    ] = ""
    ollama_default_model: Annotated[
        str,
        declared(
            "Model that it fetches when it has none; one that fits this machine where not given, none for none.",
            env="OLLAMA_DEFAULT_MODEL",
        ),
    ] = ""


def _source(cls: type[Config], name: str, flags: Mapping[str, object], env: Mapping[str, str]) -> str:
    """Where a value came from, as its user wrote it: the option, the variable; "" is neither."""
    if name in flags:
        return "--" + name.replace("_", "-")
    return next(s.env for s in cls.settings() if s.name == name) if name in env else ""


def _documentation(annotation: Any) -> tuple[str, str, bool]:  # noqa: ANN401 - annotations are of any type
    """Description, environment variable ("": not a name of its own), and whether it is a secret."""
    metas = [m for m in annotation.__metadata__ if isinstance(m, Meta) and m.description]
    extra = metas[0].extra or {}
    return str(metas[0].description), str(extra["env"]), bool(extra["secret"])


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _split_lists(cls: type[Config], values: Mapping[str, str]) -> dict[str, object]:
    """In an environment variable, a list is written with commas."""
    lists = {s.name for s in cls.settings() if get_origin(s.type.__origin__) is list}
    return {k: v.split(",") if k in lists else v for k, v in values.items()}


def _to_path(_type: type, value: object) -> Path:
    return Path(str(value)).expanduser()
