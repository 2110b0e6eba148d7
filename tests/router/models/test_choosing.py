"""What is taken of a repository, decided from the list of its files (requirements H5, H6, H7)."""

import msgspec
import pytest

from llm_router.errors import BadRequest
from llm_router.models import names
from llm_router.router.models import choosing
from llm_router.router.models.choosing import Choice, RepoFile, choose, complete, default_name
from llm_router.router.models.entry import Policy


def files(**sizes: int) -> list[RepoFile]:
    return [RepoFile(path, size) for path, size in sizes.items()]


def paths(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


QUANTISATIONS = files(
    **{
        "m-IQ2_M.gguf": 20,
        "m-Q2_K.gguf": 25,
        "m-IQ4_XS.gguf": 38,
        "m-Q4_0.gguf": 40,
        "m-Q4_K_M.gguf": 45,
        "m-Q8_0.gguf": 80,
        "mmproj-m-f16.gguf": 5,
        "m.imatrix.gguf": 1,
        "README.md": 1,
    }
)
WEIGHTS = files(
    **{
        "config.json": 1,
        "tokenizer.json": 2,
        "tokenizer_config.json": 1,
        "model.safetensors": 90,
        "pytorch_model.bin": 90,
        "README.md": 1,
        "onnx/model.onnx": 90,
    }
)


@pytest.mark.parametrize(
    ("policy", "path"), [("quality", "m-Q8_0.gguf"), ("memory", "m-IQ2_M.gguf"), ("speed", "m-Q4_0.gguf")]
)
def test_a_policy_chooses_the_quantisation(policy: Policy, path: str) -> None:
    """The largest, the smallest, the smallest that is quick to unpack; what goes with a model is no choice (H6)."""
    assert paths(choose(QUANTISATIONS, policy=policy)) == [path]


def test_speed_takes_what_there_is() -> None:
    """Where everything is slow to unpack, the smallest is the fastest."""
    assert paths(choose(QUANTISATIONS[:3], policy="speed")) == ["m-IQ2_M.gguf"]


def test_several_quantisations_and_nothing_said() -> None:
    """An error that lists what can be named, and the policies (H5)."""
    with pytest.raises(BadRequest) as error:
        choose(QUANTISATIONS)
    assert "m-Q4_K_M.gguf" in error.value.message
    assert "quality, memory or speed" in error.value.message
    assert "mmproj" not in error.value.message


@pytest.mark.parametrize("policy", ["", "quality"])
def test_both_formats_and_nothing_said(policy: Policy) -> None:
    """An error that lists the files of both, whatever the policy: it is not for formats (H5)."""
    with pytest.raises(BadRequest) as error:
        choose([*QUANTISATIONS, *WEIGHTS], policy=policy)
    assert "m-Q4_0.gguf" in error.value.message
    assert "model.safetensors" in error.value.message


def test_a_long_list_is_cut() -> None:
    """An error of a repository with hundreds of files stays readable."""
    many = [RepoFile(f"dir{number}/m-Q4_0.gguf", 1) for number in range(300)]
    with pytest.raises(BadRequest, match="and 280 more"):
        choose(many)


@pytest.mark.parametrize("file", ["m-Q8_0.gguf", "/m-Q8_0.gguf"])
def test_a_named_file(file: str) -> None:
    """It is taken, whatever else there is; what its name says of its quantisation is known."""
    choice = choose([*QUANTISATIONS, *WEIGHTS], file)
    assert (choice.format, paths(choice), choice.quantization) == ("gguf", ["m-Q8_0.gguf"], "Q8_0")


@pytest.mark.parametrize("file", ["other.gguf", "README.md", "mmproj-m-f16.gguf", "../m-Q8_0.gguf"])
def test_a_file_that_is_no_model_there(file: str) -> None:
    """An error that says what there is."""
    with pytest.raises(BadRequest, match=r"There are: m-IQ2_M\.gguf"):
        choose(QUANTISATIONS, file)


def test_a_name_that_is_there_twice() -> None:
    """It needs its directory; with it, it is found."""
    twice = files(**{"a/m-Q4_0.gguf": 1, "b/m-Q4_0.gguf": 1})
    with pytest.raises(BadRequest, match="name its directory too"):
        choose(twice, "m-Q4_0.gguf")
    assert paths(choose(twice, "b/m-Q4_0.gguf")) == ["b/m-Q4_0.gguf"]


PARTS = files(**{f"Q4/m-Q4_K_M-{number:05}-of-00003.gguf": 10 for number in (1, 2, 3)})


@pytest.mark.parametrize("file", ["", PARTS[0].path, "m-Q4_K_M-00002-of-00003.gguf"])
def test_parts_are_one_choice(file: str) -> None:
    """All of them in their order, whichever is named, and none where one is missing."""
    choice = choose([PARTS[2], PARTS[0], PARTS[1]], file)
    assert (paths(choice), choice.size, choice.quantization) == ([part.path for part in PARTS], 30, "Q4_K_M")
    assert choosing.parts_of(PARTS[1].name) == [part.name for part in PARTS]
    with pytest.raises(BadRequest):
        choose(PARTS[:2], file)


def test_safetensors_in_one_file() -> None:
    """config.json first, tokenizer and weights; neither other formats nor pages (H5)."""
    choice = choose(WEIGHTS)
    assert choice.format == "safetensors"
    assert paths(choice) == ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


def test_safetensors_with_an_index() -> None:
    """The shards that the index names, and no other safetensors (H5)."""
    shards = files(**{"a-00001-of-00002.safetensors": 1, "a-00002-of-00002.safetensors": 2, "other.safetensors": 3})
    there = [*WEIGHTS[:3], RepoFile(choosing.INDEX, 1), *shards]
    choice = choose(there)
    assert choice.index == RepoFile(choosing.INDEX, 1)
    index = msgspec.json.encode({"weight_map": {"x": shards[1].path, "y": shards[0].path, "z": shards[0].path}})
    whole = complete(choice, there, index)
    assert whole.index is None
    assert paths(whole)[-3:] == [choosing.INDEX, shards[0].path, shards[1].path]


@pytest.mark.parametrize("index", [b"", b"{", b"[]", b'{"weight_map":{}}', b'{"weight_map":{"x":"gone.safetensors"}}'])
def test_an_index_that_cannot_be_used(index: bytes) -> None:
    """An error, not a part of a model."""
    there = [*WEIGHTS[:3], RepoFile(choosing.INDEX, 1)]
    with pytest.raises(BadRequest):
        complete(choose([*there, RepoFile("x.safetensors", 1)]), there, index)


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "nothing that a node"),
    ],
)
def test_safetensors_that_lack_something(without: str, said: str) -> None:
    """An error that says what (H5)."""
    with pytest.raises(BadRequest, match=said):
        choose([file for file in WEIGHTS if file.path != without])


def test_safetensors_in_a_directory() -> None:
    """Named with their directory they are taken from there, and lose it from their names."""
    there = [RepoFile(f"fp8/{file.path}", file.size) for file in WEIGHTS]
    choice = choose([*there, *WEIGHTS], "fp8/model.safetensors")
    assert next(choosing.file_name(choice, file) for file in choice.files) == "config.json"
    assert all(path.startswith("fp8/") for path in paths(choice))


@pytest.mark.parametrize(
    ("file", "quantization"),
    [
        ("qwen2-0_5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("tinyllama-1.1b-chat-v1.0.Q5_K_S.gguf", "Q5_K_S"),
        ("model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("stories-f16-00001-of-00002.gguf", "F16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("m-IQ2_XXS.gguf", "IQ2_XXS"),
        ("m-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("F16.gguf", ""),
        ("plain.gguf", ""),
    ],
)
def test_what_a_name_says_of_the_quantisation(file: str, quantization: str) -> None:
    """As publishers write it."""
    assert choosing.quantization(file) == quantization


@pytest.mark.parametrize(
    ("base", "quantized", "name"),
    [
        ("Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M", "qwen2.5-0.5b-instruct:q4_k_m"),
        ("TinyLlama_v1.0.gguf", "", "tinyllama_v1.0"),
        ("..Odd…Name..", "", "odd-name"),
    ],
)
def test_a_default_name(base: str, quantized: str, name: str) -> None:
    """Short, lower case, and a name (H7)."""
    assert default_name(base, quantized) == names.check(name)


@pytest.mark.parametrize("base", ["", "…", "-GGUF", "con"])
def test_no_default_name(base: str) -> None:
    """Where nothing is left of it, or it is a device's name on Windows, one has to be given (H7)."""
    with pytest.raises(BadRequest, match="give one with `name`"):
        default_name(base, "")


@pytest.mark.parametrize(
    "path", ["../config.json", "a/../b.json", "/etc/passwd", "nul.json", "a:b.json", ".git/config", "a\\b.json", "a\0b"]
)
def test_file_names_stay_inside(path: str) -> None:
    """A hub cannot name a file so that it would lie elsewhere on a node (H7)."""
    with pytest.raises(BadRequest, match="cannot be kept"):
        choosing.file_name(Choice("safetensors", ()), RepoFile(path, 1))
    harmless = choosing.file_name(Choice("gguf", ()), RepoFile(path, 1))
    assert "/" not in harmless
    assert not harmless.startswith(".")
