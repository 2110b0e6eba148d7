"""One example of everything that goes in or out, for the document that describes the API (`schema`).

They are of one story: a machine called atelier with an Nvidia card, which runs llama3:8b on Ollama.
"""

import msgspec

from llm_router.contract import (
    Attach,
    Candidate,
    ErrorBody,
    ErrorDetail,
    ExcludedModel,
    Explanation,
    Gpu,
    Heartbeat,
    JoinLine,
    ModelEntry,
    NodeSettings,
    NodeView,
    NotCandidate,
    Progress,
    Registered,
    Registration,
    RuntimeFacts,
    Seen,
)
from llm_router.core.usage import RequestRecord
from llm_router.models.gguf import Facts
from llm_router.models.manifest import Manifest, ModelFile, Offer
from llm_router.router.access.keys import KeyView, NewKey
from llm_router.router.api.health import Health, LedgerHealth
from llm_router.router.api.keys import LoginLink, MadeKey
from llm_router.router.models.entry import CatalogueModel, FileView, ModelChange, NewModel, Placement
from llm_router.router.settings import SettingsChange
from llm_router.router.store.bodies import Body
from llm_router.router.store.queries import KeptEvent, KeptRequest

_ID = "7f3c2a9e51d84b06"
_MODEL = "llama3:8b"
_AT = 1767225600.0  # 2026-01-01T00:00:00Z
_GB = 1_000_000_000

# Of the parameters in paths, by name.
PARAMETERS = {
    "node_id": _ID,
    "model_id": _MODEL,
    "model": _MODEL,
    "path": f"{_MODEL}/manifest.json",
    "request_id": "req_01hq3v9w",
    "name": "ci",
}

_GPU = Gpu("NVIDIA GeForce RTX 4090", 24 * _GB, 6 * _GB, 37.0, 61.0, "cuda", "550.54", "8.9")
_RUNTIME = RuntimeFacts("ollama", "0.12.0", 4)
_PROGRESS = Progress("model", "qwen3:4b", "downloading", _GB, 2 * _GB, 50_000_000.0)
_EXCLUDED = ExcludedModel("qwen3:4b", "status 500: out of memory", _AT, _AT + 30)
_SETTINGS = NodeSettings("atelier", ["gpu", "ground floor"], "Rebooted on Sundays.", changed=_AT)
_REGISTRATION = Registration(
    _ID,
    "atelier.local",
    11435,
    runtimes=[_RUNTIME],
    gpus=[_GPU],
    backend="cuda",
    os="Linux 6.8",
    version="0.1.0",
    models_version=3,
)
_HEARTBEAT = Heartbeat(3, 12.5, 41.0, 64 * _GB, 1, 4, [_MODEL], [_RUNTIME], [_GPU], "cuda", [_PROGRESS])
_NODE = NodeView(
    id=_ID,
    name="atelier",
    kind="agent",
    state="online",
    url="http://192.0.2.7:11435",
    local=False,
    runtimes=[_RUNTIME],
    models=[_MODEL],
    loaded=[_MODEL],
    excluded=["qwen3:4b"],
    exclusions=[_EXCLUDED],
    slots=4,
    in_flight=1,
    done=1204,
    failed=2,
    cpu=12.5,
    memory=41.0,
    gpus=[_GPU],
    backend="cuda",
    progress=[_PROGRESS],
    settings=_SETTINGS,
    os="Linux 6.8",
    last_seen=_AT,
    machine="atelier.local",
    version="0.1.0",
    since=_AT - 3600,
    latency=2.4,
)
_REQUEST = RequestRecord(
    id="req_01hq3v9w",
    at=_AT,
    client="192.0.2.20",
    operation="openai.chat",
    model=_MODEL,
    node_id=_ID,
    node="atelier",
    status=200,
    outcome="done",
    streamed=True,
    attempts=1,
    first_byte=0.21,
    seconds=2.4,
    prompt_tokens=58,
    completion_tokens=171,
    error="",
    waited=0.0,
)
_REPO = "Qwen/Qwen2.5-0.5B-Instruct-GGUF"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_FILE = FileView("qwen2.5-0.5b-instruct-q4_k_m.gguf", 491_400_032, _SHA256)
_PLACEMENT = Placement(2, [_ID])
_CATALOGUE_MODEL = CatalogueModel(
    name="qwen2.5-0.5b-instruct:q4_k_m",
    display_name="Qwen 2.5, the small one",
    format="gguf",
    url=f"https://huggingface.co/{_REPO}",
    files=[_FILE],
    size=_FILE.size,
    memory=980_000_000,
    architectures=["qwen2"],
    quantization="Q4_K_M",
    context=32_768,
    chat_template=True,
    placement=_PLACEMENT,
    created=_AT,
)
_FACTS = Facts(3, architecture="qwen2", name="Qwen2.5", context=32_768, blocks=24, embedding=896, tensors=291)
_MODEL_FILE = ModelFile(_FILE.name, _FILE.size, _SHA256, f"https://huggingface.co/{_REPO}/resolve/main/{_FILE.name}")
_MANIFEST = Manifest(
    _CATALOGUE_MODEL.name,
    "gguf",
    [_MODEL_FILE],
    runtimes=["llamacpp"],
    url=_CATALOGUE_MODEL.url,
    architectures=["qwen2"],
    facts=_FACTS,
)
_KEY = KeyView("k_5d1f", "ci", "inference", [_MODEL], _AT, _AT + 30 * 86_400, 0.0)
_CANDIDATE = Candidate(_ID, "atelier", 4, 1, loaded=True, cost={"cost": 0.31, "prefill": 0.05, "decode": 0.26})
_OTHER = NotCandidate("b81e4c0d7a2f4936", "cellar", "offline")
_EXPLANATION = Explanation(
    _MODEL, "expected-latency", "lease", _ID, "atelier", "the only one that can", "", [_CANDIDATE], [_OTHER]
)

# The types' names -> an example of each.
EXAMPLES: dict[str, msgspec.Struct] = {
    type(example).__name__: example
    for example in (
        _GPU,
        _RUNTIME,
        _PROGRESS,
        _EXCLUDED,
        _SETTINGS,
        _REGISTRATION,
        _HEARTBEAT,
        _NODE,
        _REQUEST,
        _CANDIDATE,
        _OTHER,
        _EXPLANATION,
        _FILE,
        _PLACEMENT,
        _CATALOGUE_MODEL,
        _FACTS,
        _MODEL_FILE,
        _MANIFEST,
        Offer(_MANIFEST, wanted=True),
        NewModel(repo=_REPO, policy="speed", display_name="Qwen 2.5, the small one", placement=_PLACEMENT),
        ModelChange(placement=_PLACEMENT),
        Registered(_ID, "online", "3q2-7wEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        Seen("online", _SETTINGS),
        Attach("http://192.0.2.9:11434", "ollama", "cellar", 2),
        SettingsChange(name="atelier", tags=["gpu"], drain=True),
        ModelEntry(_MODEL, created=int(_AT)),
        JoinLine("http://192.0.2.1:8080", "llm-router node --router http://192.0.2.1:8080 --join 4tok3n", "4tok3n"),
        KeptEvent(_AT, "node.online", _ID, "atelier", "", 57),
        KeptRequest(**msgspec.structs.asdict(_REQUEST), seq=1204),
        Body("req_01hq3v9w", _AT, '{"model":"llama3:8b","messages":[{"role":"user","content":"hi"}]}', '{"done":true}'),
        NewKey("ci", "inference", "30d", [_MODEL]),
        _KEY,
        MadeKey("lr-1S0b5P3xJ8cGq2h4VtY7uZr9wKdE6mNfBaLiToXeHyQ", **msgspec.structs.asdict(_KEY)),
        LoginLink("/login?token=K3pT1mZrX9", _AT + 600),
        Health("ok", "0.1.0", 3, 2, LedgerHealth(0, 0, ""), "9f3a61c0", ["27be04d1"], ""),
        ErrorBody(ErrorDetail("no node 7f3c2a9e51d84b06: GET /v0/nodes lists them", "node_error", "node_not_found")),
    )
}
