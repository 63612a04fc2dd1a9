# The compiled extension (csrc/bindings.cpp, csrc/bindings_cuda.cpp). Every int that names an array is its address. The
# cuda_* functions are there only in builds with nvcc.

Features = tuple[int, int, int, int, int]  # address, dtype code, n, d, row stride in elements
Classes = tuple[int, int]  # address, type code
Memory = tuple[int, int]  # address on the device, bytes

class Centres:
    def __init__(self, mean: int, n_classes: int, d: int, float64: bool, gram: bool, threads: int, /) -> None: ...

def class_stats(
    features: Features, labels: Classes, n_classes: int, threads: int, count: int, mean: int, scatter: int, /
) -> None: ...
def add_rows(
    features: Features, labels: Classes, n_classes: int, threads: int, count: int, mean: int, scatter: int, /
) -> None: ...
def measure(
    features: Features,
    labels: Classes,
    n_classes: int,
    with_gram: bool,
    threads: int,
    count: int,
    mean: int,
    scatter: int,
    nearest: int,
    gram: int,
    directional: int,
    /,
) -> None: ...
def class_scores(
    features: Features,
    labels: Classes,
    centres: Centres,
    threads: int,
    nearest: int,
    gram: int,
    directional: int,
    /,
) -> None: ...
def cdnv(count: int, mean: int, scatter: int, n_classes: int, d: int, threads: int, /) -> float: ...
def read(features: Features, threads: int, /) -> int: ...
def levels() -> list[str]: ...
def level() -> str: ...
def set_level(name: str, /) -> None: ...
def cuda_class_stats(
    features: Features,
    labels: Classes,
    n_classes: int,
    count: int,
    mean: int,
    scatter: int,
    workspace: Memory,
    stream: int,
    /,
) -> None: ...
def cuda_add_rows(
    features: Features,
    labels: Classes,
    n_classes: int,
    count: int,
    mean: int,
    scatter: int,
    workspace: Memory,
    stream: int,
    /,
) -> None: ...
def cuda_stats_bytes(n: int, d: int, n_classes: int, /) -> int: ...
def cuda_prepare(
    mean: int, n_classes: int, d: int, float64: bool, gram: bool, centres: Memory, stream: int, /
) -> None: ...
def cuda_centres_bytes(n_classes: int, d: int, float64: bool, gram: bool, /) -> int: ...
def cuda_class_scores(
    features: Features,
    labels: Classes,
    mean: int,
    n_classes: int,
    with_gram: bool,
    centres: Memory,
    nearest: int,
    gram: int,
    directional: int,
    workspace: Memory,
    stream: int,
    /,
) -> None: ...
def cuda_scores_bytes(n: int, n_classes: int, d: int, float64: bool, gram: bool, /) -> int: ...
def cuda_cdnv(
    count: int,
    mean: int,
    scatter: int,
    n_classes: int,
    d: int,
    value: int,
    workspace: Memory,
    stream: int,
    /,
) -> None: ...
def cuda_cdnv_bytes(n_classes: int, /) -> int: ...
