"""The networks that claims share, so that equal runs are trained once."""

from ncharness.training.config import RunConfig

_DIGITS = RunConfig(data="digits", n_train=1400, width=128, epochs=150)
_CONV = _DIGITS.replace(arch="conv", width=16, epochs=60)
_MNIST = RunConfig(data="mnist", n_train=1000, width=128, epochs=150)
SMALL = {
    "digits": _DIGITS,
    "digits-conv": _CONV,
    "digits-convres": _CONV.replace(arch="convres"),
    "mnist1d": RunConfig(data="mnist1d", n_train=4000, width=200, epochs=150),
    "mnist1d-2000": RunConfig(data="mnist1d", n_train=2000, width=200, epochs=100),
    "mnist": _MNIST,
    "fashion_mnist": _MNIST.replace(data="fashion_mnist"),
}
"""The networks of the small scale by setting, 8 layers deep, which the claims share: equal runs are trained once."""

PAPER = {
    f"cifar10-{schedule}": RunConfig(
        arch="conv",
        width=400,
        data="cifar10",
        epochs=500,
        schedule=schedule,
        measurements=14,  # the last but one at .6 of the epochs, as at the small scale
        augment="code",
        precision="bf16",
        compiled=True,
    )
    for schedule in ("code", "readme")
}
"""The network of the published figure (arXiv:2202.09028; README of its code), CONV-8-400 on CIFAR-10, by schedule.

SGD, batch 128, learning rate .1 and weight decay 5e-4 are RunConfig's defaults. The code and its README name different
schedules; the figure shows the steps of the code. The paper names neither precision nor seeds; its code trains in
float32. No pilot has been run at this scale, and no run yet: what is declared for it was declared without any.
"""
PAPER_DEPTHS = (3, 5, 8, 12, 16, 20)
"""The depths L of that figure."""
