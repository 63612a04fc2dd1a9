"""Capturing and measuring layers: order, names, hooks that always go, modes that come back, data that must repeat."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ncharness import capture, cdnv, class_stats, measure, measure_layers, ncc_accuracy
from ncharness.metrics.capture import layer_names


class Branches(nn.Module):
    """Runs `last` before `first`, `twice` two times, and `never` not at all."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.twice, self.never = (nn.Linear(4, 4) for _ in range(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.twice(torch.relu(self.twice(self.first(torch.tanh(self.last(x)))))))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(4, 3, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


CONVOLUTIONAL = ["0", "1", "2", "4", "5", "7"]


def images(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return torch.randn((n, 1, 6, 6), generator=generator) + 0.4 * labels[:, None, None, None], labels


def batches_of(inputs, labels, *sizes):
    return list(zip(inputs.split(list(sizes)), labels.split(list(sizes)), strict=True))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_and_globs_select_modules_once_each():
    model = nn.ModuleDict({"block1": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "block2": nn.Linear(2, 2)})
    assert layer_names(model, ["block2", "block1.*"]) == ["block2", "block1.0", "block1.1"]
    assert layer_names(model, ["block?", "block1"]) == ["block1", "block2"]
    assert layer_names(model, ("*",)) == ["block1", "block1.0", "block1.1", "block2"]


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (["frist"], ValueError, "layers: no module is named 'frist'; did you mean first"),
        (["first", "zzz*"], ValueError, r"layers: no module is named 'zzz\*'; the model has first, last, twice, never"),
        ([], ValueError, "layers: expected at least one name, got none"),
        ("first", TypeError, "layers: expected a sequence of names, got the string 'first'"),
    ],
)
def test_bad_layer_names_are_refused_with_a_hint(layers, error, message):
    model = Branches()
    with pytest.raises(error, match=message), capture(model, layers):
        pass
    with pytest.raises(error, match=message):
        measure_layers(model, [(torch.zeros(2, 4), torch.zeros(2).long())], layers=layers, n_classes=1)


# --- capture ----------------------------------------------------------------------------------------------------------


def test_outputs_come_in_the_order_of_execution():
    model, x = Branches(), torch.randn(5, 4)
    with capture(model, ["first", "never", "twice", "last"]) as outputs:
        model(x)
        assert list(outputs) == ["last", "first", "twice"]
        assert torch.equal(outputs["last"], model.last(x))
        first = model.first(torch.tanh(model.last(x)))
        assert torch.equal(model.twice(torch.relu(model.twice(first))), outputs["twice"])
    there_and_back = nn.Sequential(model.first, model.last, model.first)
    with capture(there_and_back, ["0", "1"]) as outputs:
        assert torch.equal(there_and_back(x), outputs["0"])  # its last output, hence its last place
        assert list(outputs) == ["1", "0"]
    report = measure_layers(model, [(x, torch.arange(5) % 2)], layers=["first", "last"], n_classes=2)
    assert report.layers == list(report.ncc_error) == ["last", "first"]


def test_each_forward_pass_refreshes_the_outputs():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with capture(model, ["*"]) as outputs:
        model(torch.zeros(2, 4))
        before = dict(outputs)
        model(torch.ones(5, 4))
        assert list(outputs) == ["0", "1"]
        assert outputs["0"].shape == (5, 3)
    assert before["0"].shape == (2, 3)


def test_an_in_place_activation_does_not_change_what_was_captured():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True)), torch.randn(5, 4)
    with capture(model, ["0", "1"]) as outputs:
        model(x)
    assert torch.equal(outputs["0"], model[0](x).detach())
    assert (outputs["0"] < 0).any()
    assert torch.equal(outputs["1"], outputs["0"].relu())
    assert not outputs["0"].requires_grad


def test_hooks_go_however_the_block_ends():
    model = Branches()
    with capture(model, ["*"]) as outputs:
        assert hooks(model) == 5
        model(torch.zeros(2, 4))
    assert hooks(model) == 0
    kept = dict(outputs)
    model(torch.ones(2, 4))
    assert all(torch.equal(outputs[name], kept[name]) for name in kept)
    with pytest.raises(RuntimeError), capture(model, ["*"]):
        model(torch.zeros(2, 5))
    with pytest.raises(KeyError), capture(model, ["*"]):
        raise KeyError
    with pytest.raises(RuntimeError):
        measure_layers(model, [(torch.zeros(2, 5), torch.zeros(2).long())], layers=["*"], n_classes=2)
    assert hooks(model) == 0


def test_an_output_that_is_not_a_tensor_is_refused_by_layer():
    model = nn.Sequential(nn.Linear(4, 4), Pair())
    with pytest.raises(TypeError, match="layers: the output of 1 is a tuple, not a tensor"), capture(model, ["1"]):
        model(torch.zeros(2, 4))
    assert hooks(model) == 0
    batches = [(torch.zeros(2, 4), torch.zeros(2).long())]
    with pytest.raises(TypeError, match="layers: the output of 1 is a tuple, not a tensor"):
        measure_layers(model, batches, layers=["1"], n_classes=2)
    with pytest.raises(TypeError, match=r"model: .*tuple"):  # its own output, which gives `predicted`
        measure_layers(model, batches, layers=["0"], n_classes=2)


# --- measure_layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(50,), (20, 20, 10), (49, 1), (1, 0, 48, 1)], ids=str)
def test_measuring_equals_capturing_everything_and_measuring_the_whole(sizes):
    model = convolutional()
    inputs, labels = images()
    report = measure_layers(model, batches_of(inputs, labels, *sizes), layers=["*"], n_classes=4)
    model.eval()
    with capture(model, ["*"]) as outputs:
        scores = model(inputs)
    assert report.layers == list(outputs) == [str(i) for i in range(8)]
    assert torch.equal(report.predicted, scores.argmax(dim=1))
    assert report.held_out_ncc_error is None
    assert report.held_out_cdnv is None
    assert report.held_out_predicted is None
    for name, output in outputs.items():
        whole = measure(output.flatten(1), labels, 4)
        assert report.ncc_error[name] == pytest.approx(1 - float(whole.ncc_accuracy), abs=1e-12)
        assert torch.equal(report.stats[name].count, whole.stats.count)
        # Convolutions of batches of other sizes round differently, in float32.
        torch.testing.assert_close(report.stats[name].mean, whole.stats.mean, rtol=1e-5, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(report.stats[name].scatter, whole.stats.scatter, rtol=1e-5, atol=0)
        assert report.cdnv[name] == pytest.approx(float(cdnv(whole.stats)), rel=1e-5)
    assert report.stats["0"].n_features == 4 * 4 * 4
    assert report.effective_depth(eps=max(report.ncc_error.values())) == 1


def test_effective_depth_counts_the_measured_layers_from_one():
    inputs, labels = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    model = nn.Sequential(nn.Identity(), nn.Linear(1, 2), nn.Linear(2, 2))
    parity = nn.Parameter(torch.tensor([[0.0], [1.0]]))
    model[1].register_forward_hook(lambda _m, inputs, _o: (inputs[0] % 2) * parity.T)  # separates the classes
    report = measure_layers(model, [(inputs, labels)], layers=["0", "1"], n_classes=2)
    assert list(report.ncc_error.values()) == [0.5, 0.0]
    assert report.effective_depth(eps=0.5) == 1
    assert report.effective_depth(eps=0.1) == 2


@pytest.mark.parametrize("batch", [torch.zeros(2, 4), (torch.zeros(2, 4),), {"x": 1}, (torch.zeros(2, 4), [0, 1])])
def test_batches_that_are_not_pairs_of_tensors_are_refused(batch):
    with pytest.raises(TypeError, match=r"^batches: expected pairs of tensors \(inputs, labels\), got a"):
        measure_layers(torch.nn.Sequential(torch.nn.Linear(4, 2)), [batch], layers=["0"], n_classes=2)


def test_held_out_rows_are_measured_against_the_training_centres():
    model = convolutional()
    (inputs, labels), (others, other_labels) = images(), images(31, seed=1)
    held_out = iter(batches_of(others, other_labels, 10, 20, 1))  # one sweep, so an iterator will do
    report = measure_layers(model, [(inputs, labels)], layers=["0", "7"], n_classes=3, held_out=held_out)
    alone = measure_layers(model, [(inputs, labels)], layers=["0", "7"], n_classes=3)
    model.eval()
    with capture(model, ["0", "7"]) as outputs:
        scores = model(others)
    assert torch.equal(report.held_out_predicted, scores.argmax(dim=1))
    for name in ("0", "7"):
        accuracy = ncc_accuracy(outputs[name].flatten(1), other_labels, report.stats[name])
        own = measure(outputs[name].flatten(1), other_labels, 3)
        assert report.held_out_ncc_error[name] == pytest.approx(1 - float(accuracy), abs=1e-12)
        assert accuracy != own.ncc_accuracy  # else this test could not tell
        assert report.held_out_cdnv[name] == pytest.approx(float(own.cdnv), rel=1e-5)
        assert torch.equal(report.stats[name].scatter, alone.stats[name].scatter)
    assert report.ncc_error == alone.ncc_error


def test_layers_are_measured_before_an_in_place_activation_changes_them():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    x, y = torch.randn(9, 4), torch.arange(9) % 2
    report = measure_layers(model, [(x, y)], layers=["0"], n_classes=2)
    assert torch.equal(report.stats["0"].mean, class_stats(model[0](x), y, 2).mean)


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_back_in_its_own_mode_and_nothing_was_trained(fails):
    model = convolutional()
    model[1].eval()
    model[3].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    model[0].register_forward_pre_hook(lambda *_: seen.append((model.training, torch.is_grad_enabled())))
    inputs, labels = images()
    if fails:
        with pytest.raises(ValueError, match=r"labels: expected values in \[0, 2\), got 2 at index"):
            measure_layers(model, [(inputs, labels)], layers=["0"], n_classes=2)
    else:
        measure_layers(model, [(inputs, labels)], layers=["0"], n_classes=3)
    assert set(seen) == {(False, False)}
    assert [module.training for module in model] == [True, False, True, False, True, True, True, True]
    assert model.training
    assert torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loader_that_shuffles_is_found_out_and_one_that_does_not_is_welcome():
    model, data = convolutional(), TensorDataset(*images())
    shuffled = DataLoader(data, batch_size=8, shuffle=True)
    with pytest.raises(ValueError, match="batches: the second sweep gave other labels or another order"):
        measure_layers(model, shuffled, layers=["0"], n_classes=3)
    loaded = measure_layers(model, DataLoader(data, batch_size=50), layers=CONVOLUTIONAL, n_classes=3)
    listed = measure_layers(model, [data[:]], layers=CONVOLUTIONAL, n_classes=3)
    assert loaded.ncc_error == listed.ncc_error


def test_data_that_cannot_be_read_twice_or_at_all_are_refused():
    model, batch = Branches(), (torch.zeros(2, 4), torch.zeros(2).long())
    with pytest.raises(TypeError, match="batches: expected something that can be iterated twice, got an iterator"):
        measure_layers(model, (batch for _ in range(3)), layers=["first"], n_classes=2)
    with pytest.raises(ValueError, match="batches: expected at least one batch, got none"):
        measure_layers(model, [], layers=["first"], n_classes=2)
    with pytest.raises(ValueError, match="held_out: expected at least one sample, got none"):
        measure_layers(model, [batch], layers=["first"], n_classes=2, held_out=[])
    with pytest.raises(ValueError, match="n_classes: expected at least 1, got 0"):
        measure_layers(model, [batch], layers=["first"], n_classes=0)
    with pytest.raises(ValueError, match=r"labels: expected shape \(2,\)"):
        measure_layers(model, [(batch[0], batch[1][:1])], layers=["first"], n_classes=2)


def test_a_layer_that_does_not_run_exactly_once_is_refused_by_name():
    model, batch = Branches(), (torch.randn(6, 4), torch.arange(6) % 2)
    with pytest.raises(ValueError, match="layers: never did not run in the forward pass"):
        measure_layers(model, [batch], layers=["first", "never"], n_classes=2)
    # Its rows would be counted twice, in the means and in the error.
    with pytest.raises(ValueError, match=r"layers: .*twice"):
        measure_layers(model, [batch], layers=["first", "twice"], n_classes=2)


def test_features_that_are_not_finite_are_reported():
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(6, 4)
    x[3, 0] = torch.inf
    with pytest.warns(RuntimeWarning, match="features: NaN or infinite values in class 1; ") as caught:
        measure_layers(model, [(x, torch.arange(6) % 2)], layers=["0"], n_classes=2)
    assert caught[0].filename == __file__
