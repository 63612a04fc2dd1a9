"""Stub of the extension against the extension itself and against the bindings' sources."""

import ast
import re
from pathlib import Path

import pytest

from ncharness.kernels import cpu

ROOT = Path(__file__).parents[2]
STUB = ROOT / "ncharness" / "kernels" / "_core.pyi"
SOURCES = ROOT / "csrc"


def stubs() -> dict[str, int]:
    """Count the positional parameters of every function in the stub, and of the constructor of a class."""
    found = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = len(node.args.posonlyargs)
        elif isinstance(node, ast.ClassDef):
            (constructor,) = (part for part in node.body if isinstance(part, ast.FunctionDef))
            assert constructor.name == "__init__"
            found[node.name] = len(constructor.args.posonlyargs) - 1
    return found


def parameters(text: str) -> int:
    """Count the parameters in a parameter list, in which brackets may hold commas."""
    text = re.sub(r"\s", "", text)
    while (inner := re.sub(r"<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)", "", text)) != text:
        text = inner
    return len(text.split(",")) if text else 0


def defined(path: Path) -> dict[str, int]:
    """Count the parameters of everything that a file of bindings defines."""
    source = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
    headers = [header.read_text(encoding="utf-8") for header in sorted(SOURCES.glob("*.hpp"))]

    def of_function(name: str) -> int:
        for text in (source, *headers):
            if declared := re.search(rf"^[\w:<>]+[^\n(=]*?\b{name}\(([^;{{]*)\)\s*[;{{]", text, flags=re.MULTILINE):
                return parameters(declared[1])
        raise AssertionError(f"{path.name}: {name} is declared nowhere")

    found = {}
    for name, pointer, lambda_ in re.findall(r'm\.def\(\s*"(\w+)",\s*(?:&([\w:]+)|\[\](?:\(([^)]*)\))?)', source):
        found[name] = of_function(pointer.rpartition("::")[2]) if pointer else parameters(lambda_)
    for name, pointer in re.findall(r'py::class_<[^>]*>\(m,\s*"(\w+)"\)\s*\.def\(py::init\(&([\w:]+)\)', source):
        found[name] = of_function(pointer.rpartition("::")[2])
    assert len(found) == len(re.findall(r'\bdef\(\s*"', source)) + source.count("py::class_<"), path.name
    return found


def test_the_stub_has_what_the_bindings_define() -> None:
    sources = sorted(SOURCES.glob("bindings*.cpp"))
    assert len(sources) == 2
    assert stubs() == {name: count for path in sources for name, count in defined(path).items()}


def test_the_functions_for_cuda_devices_are_named_so() -> None:
    named = {name for name in stubs() if name.startswith("cuda_")}
    assert named == set(defined(SOURCES / "bindings_cuda.cpp"))


@pytest.mark.skipif(cpu._core is None, reason="the native extension could not be imported")
def test_the_stub_has_what_the_extension_exports() -> None:
    """Check that only a build without nvcc lacks the functions for CUDA devices."""
    exported = {}
    for name in dir(cpu._core):
        if not name.startswith("_"):
            thing = getattr(cpu._core, name)
            text = (thing.__init__ if isinstance(thing, type) else thing).__doc__
            arguments = re.search(r"\((.*)\) -> ", text)
            assert arguments is not None, text
            exported[name] = parameters(arguments[1]) - isinstance(thing, type)
    expected = {name: count for name, count in stubs().items() if name in exported or not name.startswith("cuda_")}
    assert exported == expected
    assert len([name for name in exported if name.startswith("cuda_")]) in (
        0,
        len([name for name in stubs() if name.startswith("cuda_")]),
    )


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("int a", 1), ("const std::tuple<int, int>& a,\n bool b", 2), ("a: f[b, c], d: e", 2)]
)
def test_parameters_are_counted(text: str, count: int) -> None:
    assert parameters(text) == count
