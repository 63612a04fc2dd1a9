"""Few principal directions of a layer suffice to classify.

Feng et al. (arXiv:2206.06072): networks keep 95 % of their accuracy when a layer's features are projected on a small
part of their principal directions, 149 of 512 in a ResNet-18. Accuracy here is that on the training samples, which a
network that memorised can lose as well. Pilots, seeds 0 and 1: at most .13 of the directions on digits, .26 on
MNIST-1D. The margin is half of what that leaves. In the control one layer has memorised random labels, and needed .76.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

MARGIN = 0.45
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l17-classification-dimension",
    title="Few directions of a layer suffice to classify",
    statement=f"In every hidden layer more than {MARGIN} of the principal directions can go and .95 of the accuracy "
    "stays.",
    source="Feng et al., arXiv:2206.06072, table 1",
    quantity="per seed, 1 less the largest share over layers of principal directions, largest variance first, that "
    "keep .95 of the training accuracy",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.85, sd=0.05),
    precondition="training error at most 0.01",
    suite="literature",
)
CONTROL = study_grid("layers.trained", data="shuffled:digits", samples=1400, depth=1, seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(name="batch norm", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds), control_runs=CONTROL),
        Setting(
            name="He",
            eps=None,
            runs=study_grid("layers.trained", start="he", **PLAIN, seed=CLAIM.seeds),
            control_runs=CONTROL,
        ),
        Setting(
            name="mnist1d",
            eps=None,
            runs=study_grid("layers.trained", data="mnist1d", seed=CLAIM.seeds),
            control_runs=CONTROL,
        ),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return CLAIM.judge([idle(run) for run in runs])


def idle(run: Run) -> float:
    width = int(run.config.to_dict()["settings"]["width"])
    return 1 - max(run.profile("classification_dimension", point="out")) / width


def test_few_directions_of_a_layer_suffice_to_classify(supported: Check) -> None:
    supported(judge)


def test_control_random_labels_in_one_layer(control: Check) -> None:
    control(
        "The same in a network of one hidden layer, trained on random labels.",
        lambda runs: CLAIM.judge([idle(run) for run in runs]),
    )
