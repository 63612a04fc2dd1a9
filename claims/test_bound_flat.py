"""C11: the comparative generalisation bound is flat in L.

The abstracts of the ICLR submission MJSIkA72S4k and of TMLR 2023 call the bound (empirically) independent of the
depth. Only its first term can depend on L, through the effective depth of the networks on S1. The estimate is an
under-estimate (training finds d_min or more, never less), delta1 is assumed to be 0, and p, alpha and the runs on S1
u S2~ are those of C10 (test_bound_nontrivial.py), with the same pilots: in two splits the value was the same for
every L. A bound that is trivial at every L is flat too and says nothing, so that is NOT APPLICABLE. L = 12 was left
aside as networks of width 20 did not fit S1 there. The values differ by 0 or about 1 in every split; the margin is
one that no difference in 6 splits implies exactly: its 95 % limit is .39. (Found after the runs: the control is a
weak one. Where the number of redundant layers reaches d_min at L = 4 already, the event occurs at every L, and that
is flat as well: so in five of six splits at eps .05.)
"""

from collections.abc import Callable, Sequence

from ncharness import (
    Bound,
    Check,
    Claim,
    Run,
    RunConfig,
    Setting,
    Verdict,
    comparative_bound,
    grid,
    not_applicable,
    unfitted,
)

MARGIN, DEPTHS = 0.4, (4, 6, 8)
P, BOUND_ALPHA, DELTA1 = 0.3, 0.1, 0.0
CLAIM = Claim(
    id="c11-bound-flat",
    title="The comparative bound is flat in L",
    statement="The estimate of the comparative bound (an under-estimate: training finds d_min or more) is the same for "
    f"L = 4, 6 and 8 within a margin of {MARGIN}.",
    source="ICLR submission MJSIkA72S4k; TMLR 2023",
    quantity="per split into S1 and S2, the largest difference between any two L of what the split contributes to the "
    f"bound at p = {P}, alpha = {BOUND_ALPHA}, delta1 = {DELTA1:g} (assumed), delta2 estimated",
    test="equivalence",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=(1 - 0.03) ** 6,  # that no split shows a difference where it has a probability of .03
    figure="bound-by-depth",
    precondition="training error on S1 at most 0.01 at every L; a bound below the error of a constant guess at some L",
)
FIRST = RunConfig(data="digits", part="first", n_train=1000, width=20, epochs=150, batch_size=50, measurements=2)
SEARCH = FIRST.replace(part="both", epochs=300, batch_size=125, weight_decay=5e-3)  # what shallow networks can fit


def family() -> list[RunConfig]:
    """The runs of every split, each split with two initialisations of its own."""
    runs: list[RunConfig] = []
    for split in CLAIM.seeds:
        seeds = (split, split + 100)
        runs += grid(FIRST.replace(split=split), depth=DEPTHS, seed=seeds)
        runs += grid(SEARCH.replace(split=split), noise=(0.3, 0.4), depth=(2, 3), seed=seeds)
    return runs


SETTINGS = {
    "small": [Setting(name="digits", eps=0.05, runs=family())],
    "paper": "no published setting: p, alpha, eps, m and the numbers of splits of the paper's estimate are not public",
}


def contributions(bound: Bound) -> Sequence[float]:
    return bound.per_split


def of_redundant_layers(bound: Bound) -> Sequence[float]:
    """The same with the number of layers from the effective depth upwards in the place of the effective depth."""
    sides = zip(bound.per_split, bound.depths, bound.minimal, strict=True)
    return [value - (depth >= needed) + (bound.depth - depth >= needed) for value, depth, needed in sides]


def judge(runs: Sequence[Run], eps: float, quantity: Callable[[Bound], Sequence[float]] = contributions) -> Verdict:
    both = [run for run in runs if run.config.part == "both"]
    bounds = []
    for L in DEPTHS:
        first = [run for run in runs if run.config.part == "first" and run.config.depth == L]
        bounds.append(comparative_bound(first, both, p=P, eps=eps, alpha=BOUND_ALPHA, delta1=DELTA1, n_classes=10))
    if reason := unfitted([run for run in runs if run.config.part == "first"]):
        return not_applicable(reason)
    if all(bound.is_trivial for bound in bounds):
        return not_applicable(
            f"the bound is trivial at every L at eps {eps:g}: {bounds[0].value:.2f} at L = {DEPTHS[0]}"
        )
    values = zip(*map(quantity, bounds), strict=True)
    return CLAIM.judge([max(of_split) - min(of_split) for of_split in values])


def test_the_bound_hardly_depends_on_depth(supported: Check) -> None:
    supported(judge)


def test_control_number_of_redundant_layers(control: Check) -> None:
    control(
        "With the number of layers from the effective depth upwards in place of the effective depth, in every term.",
        judge,
        of_redundant_layers,
    )
