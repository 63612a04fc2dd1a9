"""Which classifiers torchvision has, by name; none is built here, and torchvision is imported only when asked."""

import difflib


def check_classifier(name: str, *, argument: str, instead: str = "") -> None:
    """ValueError, with close matches, unless torchvision has a classifier of that name.

    `argument` is what the caller's caller passed, and `instead` what else it may be.
    """
    try:
        import torchvision.models
    except ModuleNotFoundError:
        wanted = f"{instead}a classifier of torchvision, which is not installed (pip install 'ncharness[claims]')"
        raise ValueError(f"{argument}: expected {wanted}, got {name!r}") from None
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, known) if isinstance(name, str) else []
        hint = f"did you mean {' or '.join(close)}?" if close else "torchvision.models.list_models() lists all"
        raise ValueError(f"{argument}: expected {instead}a classifier of torchvision, got {name!r}; {hint}")
