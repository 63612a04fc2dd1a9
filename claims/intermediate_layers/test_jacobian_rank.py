"""The rank of the Jacobian by the inputs does not grow from layer to layer, and falls.

Feng et al. (arXiv:2206.06072): rank diminishing. That it cannot grow is the rank of a product of matrices; with
singular values cut off relative to the largest, as they and we do, it need not be exact, and a rise of up to one and a
half is let pass. That it falls is an observation. Ranks are means over ten training samples, cut off at the float32
rounding of the matrix. Pilots, seeds 0 and 1: no rise; falls of .43 with batch norm, .12 and .14 after He
initialisation, .5 in the default one.
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

MARGIN, RISE = 0.05, 1.5
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l14-jacobian-rank",
    title="The rank of Jacobians diminishes with depth",
    statement=f"From the first hidden layer to the last the rank of the Jacobian falls by more than {MARGIN} of "
    f"itself, and no layer's is more than {RISE} above that of the layer before.",
    source="Feng et al., arXiv:2206.06072, theorem 1 and figure 2",
    quantity="per seed, share of the Jacobian's rank that is lost from layer 1 to L; the largest rise at one layer "
    f"(margin {RISE})",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=(Planned(effect=0.13, sd=0.03), Planned(effect=0.0, sd=0.5, margin=-RISE)),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="batch norm", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(name="He", eps=None, runs=study_grid("layers.trained", start="he", **PLAIN, seed=CLAIM.seeds)),
        Setting(name="default", eps=None, runs=study_grid("layers.trained", **PLAIN, seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run], layers: slice = slice(None)) -> Verdict:
    """`layers` is the order in which the layers are taken."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    falls, rises = [], []
    for run in runs:
        ranks = run.profile("jacobian_rank", point="out")[layers]
        falls.append(1 - ranks[-1] / ranks[0])
        rises.append(max(later - earlier for earlier, later in pairwise(ranks)))
    return weakest(
        {
            "fall": CLAIM.judge(falls),
            "no rise": superiority([-rise for rise in rises], margin=-RISE, alpha=CLAIM.alpha),
        }
    )


def test_the_rank_of_jacobians_diminishes_with_depth(supported: Check) -> None:
    supported(judge)


def test_control_layers_reversed(control: Check) -> None:
    control("The same with the layers in reverse order.", judge, slice(None, None, -1))
