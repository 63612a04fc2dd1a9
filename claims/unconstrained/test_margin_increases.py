"""Once the data are separated, the normalised margin of unconstrained features only increases.

Ji et al., ICLR 2022 (arXiv:2110.02796), and Lyu & Li (arXiv:1906.05890) in general. From starts of scale 1, from which
the limit is not reached in any ordinary time (u16). Each seed is followed from its first checkpoint with a positive
margin. Pilots, seeds 0 to 6: .39 to .69 after 2,000 steps, .981 to .987 after 16,000, the least rise from a checkpoint
to the next .018. A first design followed every seed from 2,000 steps on and was NOT APPLICABLE on seeds 1000 to 1004,
as one of them was not separated by then; no rise was looked at, and this one has seeds of its own.
"""

from collections.abc import Sequence
from itertools import dropwhile, pairwise

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

STEPS = (250, 500, 1000, 2000, 4000, 8000, 16000)
CLAIM = Claim(
    id="u17-margin-increases",
    title="The margin only increases once the data are separated",
    statement="Under gradient descent on unregularised cross-entropy from a large start, the normalised margin rises "
    "from each checkpoint to the next once the data are separated.",
    source="Ji et al., arXiv:2110.02796",
    quantity="per seed, the least rise of the margin's share of its limit from a checkpoint to the next, of 250 to "
    "16,000 steps by doubling, since the first at which the margin is positive",
    test="superiority",
    margin=0.005,
    alpha=0.05,
    seeds=range(1010, 1015),
    planned=Planned(effect=0.018, sd=0.004),
    precondition="the first checkpoint with a positive margin is followed by two more at least",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="scale 1", eps=None, runs=study_grid("max_margin.descent", scale=1.0, seed=CLAIM.seeds))]
}


def judge(runs: Sequence[Run], steps: Sequence[int] = STEPS) -> Verdict:
    shares = [[run.scalar("margin_share", epoch=step) for step in steps] for run in runs]
    separated = [list(dropwhile(lambda share: share <= 0.0, of_seed)) for of_seed in shares]
    if min(map(len, separated)) < 3:
        return not_applicable("a seed is separated at fewer than three checkpoints")
    return CLAIM.judge([min(b - a for a, b in pairwise(of_seed)) for of_seed in separated])


def test_the_margin_only_increases_once_the_data_are_separated(supported: Check) -> None:
    supported(judge)


def test_control_steps_reversed(control: Check) -> None:
    control("The same with the checkpoints in reverse order.", judge, STEPS[::-1])
