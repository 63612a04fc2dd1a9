Features = tuple[int, int, int, int, int]  # address, dtype code, n, d, row stride in elements
Classes = tuple[int, int]  # address, type code

class Centres:
    def __init__(self, mean: int, n_classes: int, d: int, wide: bool, gram: bool, threads: int, /) -> None: ...

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
