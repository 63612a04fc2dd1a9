"""The dimension of the features falls from layer to layer.

Feng et al. (arXiv:2206.06072): the intrinsic dimension of features decreases with depth. It is taken here as the number
of principal directions that hold .95 of the variance of the training samples' features; theirs is of perturbed inputs.
As the claim is usually stated it holds from the inputs on; pilots, seeds 0 and 1, saw the dimension rise from the
inputs to the first layer, and fall after it with SGD: 28 at the inputs, 34 at layer 1, 9 at layer 8; with Adam 28, 53,
55, 51 and on to 9. A rise of up to .15 of the dimension before is let pass.
"""

from collections.abc import Sequence
from itertools import pairwise

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    study_grid,
    superiority,
    unfitted,
    weakest,
)

MARGIN, RISE = 0.3, 0.15
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l15-feature-dimension",
    title="The dimension of features falls with depth",
    statement=f"The dimension of features falls by more than {MARGIN} of itself along the layers, and no layer's is "
    f"more than {100 * RISE:g} % above that of the layer before.",
    source="Feng et al., arXiv:2206.06072, figure 3",
    quantity="per seed, share of the dimension (principal directions holding .95 of the variance) lost from the first "
    f"layer to the last; the largest relative rise at one layer (margin {RISE})",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=(Planned(effect=0.7, sd=0.1), Planned(effect=0.0, sd=0.05, margin=-RISE)),
    precondition="training error at most 0.01",
    suite="literature",
)
FROM_INPUTS = "from the inputs"
SETTINGS = {
    "small": [
        Setting(name=FROM_INPUTS, eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(name="from layer 1", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(
            name="from layer 1, He", eps=None, runs=study_grid("layers.trained", start="he", **PLAIN, seed=CLAIM.seeds)
        ),
    ]
}


def judge(runs: Sequence[Run], name: str, layers: slice = slice(None)) -> Verdict:
    """`name` of the setting says where to begin; `layers` is the order in which the layers are taken."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    falls, rises = [], []
    for run in runs:
        inputs = run.profile("dimension", point="in") if name == FROM_INPUTS else []
        found = [*inputs, *run.profile("dimension", point="out")][layers]
        falls.append(1 - found[-1] / found[0])
        rises.append(max(later / earlier - 1 for earlier, later in pairwise(found)))
    return weakest(
        {
            "fall": CLAIM.judge(falls),
            "no rise": superiority([-rise for rise in rises], margin=-RISE, alpha=CLAIM.alpha),
        }
    )


def test_the_dimension_of_features_falls_with_depth(supported: Check, setting: Setting) -> None:
    supported(judge, setting.name)


def test_control_layers_reversed(control: Check, setting: Setting) -> None:
    control("The same with the layers in reverse order.", judge, setting.name, slice(None, None, -1))
