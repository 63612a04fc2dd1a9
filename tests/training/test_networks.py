"""The networks are those of the paper, their capture points are what they are called, and the residual is alive."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from ncharness import measure_layers
from ncharness.training import networks, torchvision_networks

SMALL = {"mlp": (40,), "conv": (3, 8, 12), "convres": (3, 8, 12)}


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def small(arch, *, depth=3, width=6, seed=0):
    torch.manual_seed(seed)
    return networks.build(arch, depth=depth, width=width, in_shape=SMALL[arch], n_classes=5)


def batch(arch, n=7, seed=1):
    return torch.randn(n, *SMALL[arch], generator=torch.Generator().manual_seed(seed))


def captured(model, names, x):
    """Outputs that hooks see, by name, in the order in which they ran."""
    seen = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name in names
    ]
    result = model(x)
    for hook in hooks:
        hook.remove()
    return result, seen


@pytest.fixture(params=["mlp", "conv", "convres"])
def arch(request):
    return request.param


@pytest.mark.parametrize(
    ("depth", "width", "parameters"),
    # stem + L blocks + head, biases everywhere; the first is the paper's 29.7 M
    [(20, 400, 29_727_210), (10, 100, 1_008_810), (10, 50, 269_410)],
    ids=["CONV-20-400", "CONV-10-100", "CONV-10-50"],
)
def test_conv_has_the_papers_number_of_parameters(depth, width, parameters):
    with torch.device("meta"):
        model = networks.build("conv", depth=depth, width=width, in_shape=(3, 32, 32), n_classes=10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_mlp_and_convres_have_the_parameters_of_their_layers():
    L, H, k, pixels = 4, 7, 10, 32 * 32
    with torch.device("meta"):
        mlp = networks.build("mlp", depth=L, width=H, in_shape=(1, 32, 32), n_classes=k)
        convres = networks.build("convres", depth=L, width=H, in_shape=(1, 32, 32), n_classes=k)
    linear, bn = H * H + H, 2 * H
    assert sum(p.numel() for p in mlp.parameters()) == pixels * H + H + (L - 1) * linear + L * bn + H * k + k
    stem = (4 * H + H + bn) + (4 * H * H + H + bn)
    block = 2 * (9 * H * H + H + bn)
    assert sum(p.numel() for p in convres.parameters()) == stem + L * block + 64 * H * k + k


def test_features_have_the_papers_dimension(arch):
    H = 4
    model = networks.build(arch, depth=2, width=H, in_shape=(3, 32, 32), n_classes=10).eval()
    names = networks.capture_points(arch, depth=2, points=("pre_bn", "out"))
    logits, seen = captured(model, names, torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert [features.shape for features in seen.values()] == [(2, H) if arch == "mlp" else (2, H, 8, 8)] * 4


@pytest.mark.parametrize("name", [*networks.ARCHITECTURES])
def test_every_architecture_has_what_its_spec_promises(name):
    spec, sizes = networks.ARCHITECTURES[name], {"depth": 3, "width": 4}
    if not spec.sized:
        sizes = {"depth": 0, "width": 0}
    model = networks.build(name, **sizes, in_shape=(3, 8, 12), n_classes=5)
    assert model.training
    assert spec.paper_point in spec.points
    assert spec.about
    assert spec.layer_products(8) > 0
    layers = networks.measured_layers(model.eval(), name, depth=sizes["depth"], points=spec.points)
    if spec.sized:
        assert [*layers] == [f"block0{i}.{point}" for i in (1, 2, 3) for point in spec.points]
    with torch.no_grad():
        logits, seen = captured(model, list(layers.values()), torch.randn(2, 3, 8, 12))
    assert list(seen) == list(layers.values())
    assert logits.shape == (2, 5)
    assert f"| `{name}` | {spec.about} |" in networks.markdown_table()


def test_torchvisions_classifiers_have_one_spec():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    spec = networks.spec_of("resnet18")
    assert (spec.name, spec.sized, spec.points, spec.forward_flops) == ("resnet18", False, ("out",), None)
    assert "torchvision" in networks.markdown_table()
    with pytest.raises(ValueError, match=r"^arch: expected mlp, conv, convres or a classifier .*, got 'cnn'"):
        networks.measured_layers(nn.Identity(), "cnn", depth=3)


def test_names_come_in_execution_order_and_every_counted_layer_is_there(arch):
    names = networks.capture_points(arch, depth=12, points=("out", "pre_bn"))
    assert names[:3] == ["block01.pre_bn", "block01.out", "block02.pre_bn"]
    assert len(names) == 24
    _, seen = captured(small(arch, depth=12), names, batch(arch))
    assert list(seen) == names
    blocks = [name for name, _ in small(arch, depth=12).named_children() if name.startswith("block")]
    assert blocks == [f"block{i:02d}" for i in range(1, 13)] == sorted(blocks)


def test_names_of_a_hundred_layers_still_sort():
    names = networks.capture_points("mlp", depth=100)
    assert names[0] == "block001.pre_bn"
    assert names == sorted(names)
    assert dict(small("mlp", depth=100).named_modules()).keys() >= set(names)


@pytest.mark.parametrize(("arch", "point"), [("mlp", "pre_bn"), ("conv", "pre_bn"), ("convres", "out")])
def test_the_papers_point_is_what_the_reference_code_records(arch, point):
    assert networks.capture_points(arch, depth=2) == [f"block01.{point}", f"block02.{point}"]
    assert networks.capture_points(arch, depth=2, points=("paper", point)) == [f"block01.{point}", f"block02.{point}"]


def test_capture_points_refuse_what_they_do_not_know():
    for points in (("paper", "post_bn"), (), "out"):
        with pytest.raises(ValueError, match=r"^points: expected some of paper, pre_bn, out, got"):
            networks.capture_points("mlp", depth=2, points=points)
    with pytest.raises(ValueError, match=r"^arch: expected one of mlp, conv, convres, got 'cnn'"):
        networks.capture_points("cnn", depth=2)
    with pytest.raises(ValueError, match=r"^depth: .* got 0"):
        networks.capture_points("mlp", depth=0)


def batch_norm(x):
    """Batch norm in training mode with its initial weights, written out."""
    dims = (0, 2, 3) if x.ndim == 4 else (0,)
    return (x - x.mean(dims, keepdim=True)) / (x.var(dims, unbiased=False, keepdim=True) + 1e-5).sqrt()


def manual_mlp(model, x):
    points = []
    for block in (model.block01, model.block02, model.block03):
        pre = x @ block.pre_bn.weight.T + block.pre_bn.bias
        x = batch_norm(pre).clamp(min=0)
        points += [pre, x]
    return x, points


def manual_conv(model, x):
    first, _, second, _, _ = model.stem
    x = batch_norm(F.conv2d(x, first.weight, first.bias, stride=2))
    x = batch_norm(F.conv2d(x, second.weight, second.bias, stride=2)).clamp(min=0)
    points = []
    for block in (model.block01, model.block02, model.block03):
        if isinstance(block, networks.ResidualBlock):
            one, _, _, two = block.inner
            inner = batch_norm(F.conv2d(x, one.weight, one.bias, padding=1)).clamp(min=0)
            pre = F.conv2d(inner, two.weight, two.bias, padding=1) + x
        else:
            pre = F.conv2d(x, block.pre_bn.weight, block.pre_bn.bias, padding=1)
        x = batch_norm(pre).clamp(min=0)
        points += [pre, x]
    return x.flatten(1), points


def test_captured_tensors_and_logits_equal_a_forward_pass_written_out(arch):
    model, x = small(arch).double(), batch(arch).double()
    names = networks.capture_points(arch, depth=3, points=("pre_bn", "out"))
    logits, seen = captured(model, names, x)
    last, expected = (manual_mlp if arch == "mlp" else manual_conv)(model, x)
    assert len(seen) == len(expected)
    for (name, features), value in zip(seen.items(), expected, strict=True):
        torch.testing.assert_close(features, value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(logits, last @ model.head.weight.T + model.head.bias, rtol=1e-9, atol=1e-9)


def test_no_activation_works_in_place(arch):
    activations = [module for module in small(arch).modules() if isinstance(module, nn.ReLU)]
    assert len(activations) == {"mlp": 3, "conv": 4, "convres": 7}[arch]
    assert not any(activation.inplace for activation in activations)


def test_every_parameter_gets_a_gradient(arch):
    model, x = small(arch), batch(arch)
    nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3, 4, 0, 1])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    # Biases before batch norm are left out: their gradient is zero up to rounding.
    weights = {name: p.grad.abs().max().item() for name, p in model.named_parameters() if p.ndim > 1}
    assert len(weights) == {"mlp": 4, "conv": 6, "convres": 9}[arch]
    assert min(weights.values()) > 1e-5, weights


def test_the_residual_block_has_a_live_skip_and_second_convolution():
    block, x = networks.ResidualBlock(6).eval(), torch.randn(4, 6, 5, 5)
    first, second = block.inner[0], block.inner[3]
    block(x).square().sum().backward()
    assert first.weight.grad.abs().max() > 1e-3
    assert second.weight.grad.abs().max() > 1e-3

    with torch.no_grad():
        plain = block(x)
        block.alpha = 0.0
        assert (block(x) - plain).abs().max() > 0.1  # the skip counts
        second.weight.zero_()
        second.bias.zero_()
        assert not block(x).any()  # without a skip, the second convolution is all there is
        block.alpha = 1.0
        torch.testing.assert_close(block(x), x.clamp(min=0) / (1 + 1e-5) ** 0.5)  # and now the skip is


def test_alpha_scales_the_skip():
    block, x = networks.ResidualBlock(3, alpha=0.25).eval(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        _, seen = captured(block, ["pre_bn"], x)
        torch.testing.assert_close(seen["pre_bn"], block.inner(x) + x / 4)
    assert networks.ResidualBlock(3).alpha == small("convres").block01.alpha == 1.0


def test_features_in_eval_mode_do_not_depend_on_the_batch(arch):
    model, x = small(arch).double(), batch(arch).double()
    names = networks.capture_points(arch, depth=3, points=("pre_bn", "out"))
    with torch.no_grad():
        model(x)  # gives the running statistics something to hold
        _, training = captured(model, names, x[:2])
        model.eval()
        _, together = captured(model, names, x)
        _, alone = captured(model, names, x[:2])
    for name in names:
        torch.testing.assert_close(alone[name], together[name][:2])
    assert not torch.allclose(training["block03.out"], alone["block03.out"])


def test_one_seed_gives_one_network_and_depth_shares_the_first_layers(arch):
    shallow, again, deep = small(arch, depth=2), small(arch, depth=2), small(arch, depth=4)
    theirs, deeper = again.state_dict(), deep.state_dict()
    for name, value in shallow.state_dict().items():
        assert torch.equal(value, theirs[name])
        assert name.startswith("head") or torch.equal(value, deeper[name])


def test_building_does_not_seed(arch):
    first, second = (networks.build(arch, depth=1, width=4, in_shape=(1, 8, 8), n_classes=2) for _ in range(2))
    differing = [name for name, p in first.named_parameters() if not torch.equal(p, second.get_parameter(name))]
    assert len(differing) >= {"mlp": 4, "conv": 8, "convres": 10}[arch]  # all but those of batch norm


@pytest.mark.parametrize("arch", ["conv", "convres"])
@pytest.mark.parametrize("shape", [(40,), (8, 8), (1, 28, 30), (1, 30, 28), (1, 1, 8, 8)], ids=str)
def test_convolutions_refuse_shapes_that_the_stem_cannot_halve_twice(arch, shape):
    with pytest.raises(ValueError, match=rf"^in_shape: {arch} expected .* divisible by 4.*got \({shape[0]},"):
        networks.build(arch, depth=1, width=2, in_shape=shape, n_classes=2)


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("depth", 0, "0"),
        ("width", -1, "-1"),
        ("width", 2.0, "2.0"),
        ("n_classes", True, "True"),
        ("in_shape", (), r"\(\)"),
        ("in_shape", (3, 0, 4), "0"),
        ("arch", "resnet", "'resnet'"),
    ],
)
def test_impossible_arguments_are_named(name, value, got):
    arguments = {"arch": "mlp", "depth": 1, "width": 2, "in_shape": (4,), "n_classes": 2, name: value}
    with pytest.raises(ValueError, match=rf"^{name}: expected .*got {got}"):
        networks.build(**arguments)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "googlenet"])
def test_torchvision_models_return_logits_in_training_mode(name):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    model = torchvision_networks.torchvision_model(name, n_classes=3)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


FAMILIES = ["resnet18", "resnet50", "vgg11", "vgg11_bn", "densenet121"]


def cifar(name, *, n_classes=3, **settings):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    return torchvision_networks.torchvision_model(name, n_classes=n_classes, stem="cifar", **settings)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("in_channels", [3, 1])
def test_cifar_stems_take_small_images_and_train_every_parameter(name, in_channels):
    with torch.device("meta"):  # shapes and gradients, no numbers
        model, x = cifar(name, in_channels=in_channels), torch.zeros(2, in_channels, 32, 32)
        logits = model(x)
        assert logits.shape == (2, 3)
        F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)).backward()
    assert [parameter for parameter, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "densenet121"])
def test_cifar_stems_keep_the_resolution_up_to_the_first_stage(name):
    stage = "layer1" if name.startswith("res") else "features.denseblock1"
    with torch.device("meta"):
        _, seen = captured(cifar(name), [stage], torch.zeros(1, 3, 32, 32))
    assert seen[stage].shape[-2:] == (32, 32)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # of ten classes; the last has a batch norm of 64 channels after its stem, which others leave out
    [("resnet18", 11_173_962), ("vgg16_bn", 14_728_266), ("densenet121", 6_956_298 + 2 * 64)],
)
def test_cifar_networks_have_the_parameters_that_are_usually_given(name, parameters):
    with torch.device("meta"):
        model = cifar(name, n_classes=10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_new_layers_are_initialised_as_the_family_is():
    resnet, dense, vgg = cifar("resnet18"), cifar("densenet121"), cifar("vgg11", in_channels=1)
    for model in (resnet, dense, vgg):
        model.requires_grad_(False)
    assert float(resnet.conv1.weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # fan-out
    assert float(dense.features.conv0.weight.std()) == pytest.approx((2 / 27) ** 0.5, rel=0.05)  # fan-in
    assert float(vgg.features[0].weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert float(vgg.classifier.weight.std()) == pytest.approx(0.01, rel=0.1)
    assert not vgg.classifier.bias.any()
    assert not vgg.features[0].bias.any()


def test_layers_of_a_torchvision_network_are_measured_by_name():
    model = cifar("resnet18", n_classes=4)
    batches = [(torch.randn(12, 3, 32, 32), torch.arange(12) % 4)]
    names = ["nc1", "self_duality", "class_separation"]
    report = measure_layers(model, batches, layers=["layer?", "avgpool"], n_classes=4, metrics=names)
    assert report.layers == ["layer1", "layer2", "layer3", "layer4", "avgpool"]
    assert report.stats["layer1"].n_features == 64 * 32 * 32
    assert 0 < report.metrics["self_duality"]["avgpool"] < 4  # the head's input
    assert math.isnan(report.metrics["self_duality"]["layer1"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "alexnet", "stem": "cifar"}, "^stem: cifar is known for ResNet, VGG and DenseNet, got 'alexnet'"),
        ({"stem": "mnist"}, "^stem: expected one of imagenet, cifar, got 'mnist'"),
        ({"in_channels": 1}, "^in_channels: expected 3 with the imagenet stem, got 1"),
        ({"in_channels": 0, "stem": "cifar"}, "^in_channels: expected integers of at least 1, got 0"),
        ({"n_classes": 0}, "^n_classes: expected integers of at least 1, got 0"),
    ],
)
def test_impossible_stems_are_refused_by_name(settings, message):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match=message):
        torchvision_networks.torchvision_model(**{"name": "resnet18", "n_classes": 3, **settings})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet81", r"did you mean .*resnet18"), ("fcn_resnet50", "did you mean .*resnet50"), ("qqq", "list_models")],
)
def test_unknown_torchvision_models_are_refused_with_close_matches(name, hint):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match=rf"^name: expected a classifier of torchvision, got '{name}'; .*{hint}"):
        torchvision_networks.torchvision_model(name, n_classes=3)


def test_importing_the_module_does_not_import_torchvision():
    code = "import sys, ncharness.training.networks; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def classifier(name, *, in_shape=(3, 32, 32), depth=0, width=0):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    return networks.build(name, depth=depth, width=width, in_shape=in_shape, n_classes=4)


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("resnet18", 9, "layer1.0", "avgpool"),  # eight blocks and the pooled features
        ("resnet50", 17, "layer1.0", "avgpool"),
        ("vgg11_bn", 9, "features.2", "avgpool"),
        ("densenet121", 5, "features.denseblock1", "features.norm5"),
        ("mobilenet_v3_small", 16, "features.0", "classifier.1"),  # 13 blocks, pooling, linear, Hardswish
        ("shufflenet_v2_x0_5", 23, "conv1.0", "conv5.2"),
        ("squeezenet1_1", 15, "features.0", "classifier.2"),
    ],
)
def test_the_layers_of_a_classifier_run_once_each_and_in_order(name, count, first, last):
    with torch.device("meta"):
        model = classifier(name)
    layers = networks.measured_layers(model, name, depth=0)
    assert list(layers) == [f"{module}.out" for module in layers.values()]
    assert len(layers) == count
    assert (next(iter(layers)), [*layers][-1]) == (f"{first}.out", f"{last}.out")
    ran = []
    for module in layers.values():
        hook = lambda _m, _i, out, module=module: ran.append((module, out.shape[0]))  # noqa: E731
        model.get_submodule(module).register_forward_hook(hook)
    logits = model(torch.zeros(2, 3, 32, 32, device="meta"))
    assert ran == [(module, 2) for module in layers.values()]
    assert logits.shape == (2, 4)


def test_what_the_head_of_a_resnet_reads_is_its_last_layer():
    model, x = classifier("resnet18").eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits, seen = captured(model, list(networks.measured_layers(model, "resnet18", depth=0).values()), x)
        torch.testing.assert_close(model.fc(seen["avgpool"].flatten(1)), logits)
        torch.testing.assert_close(seen["layer4.1"].mean((2, 3)), seen["avgpool"].flatten(1))


def test_the_layers_of_the_papers_networks_are_their_capture_points():
    points = ("pre_bn", "out")
    layers = networks.measured_layers(small("conv"), "conv", depth=3, points=points)
    assert list(layers) == list(layers.values()) == networks.capture_points("conv", depth=3, points=points)


def test_a_classifier_is_built_in_training_mode_with_no_statistics_moved_and_nothing_drawn():
    torch.manual_seed(3)
    first = classifier("resnet18", in_shape=(1, 8, 8))
    after = torch.rand(1)
    torch.manual_seed(3)
    second = torchvision_networks.torchvision_model("resnet18", n_classes=4, stem="cifar", in_channels=1)
    assert first.training
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet18", "depth": 8}, "^depth: expected 0 for resnet18, whose layers are its own, got 8"),
        ({"name": "resnet18", "width": 1}, "^width: expected 0 for resnet18, whose layers are its own, got 1"),
        ({"name": "resnet18", "in_shape": (40,)}, r"^in_shape: resnet18 expected \(channels, height, width\), got"),
        ({"name": "vgg11", "in_shape": (3, 8, 8)}, r"^in_shape: vgg11 cannot take samples of \(3, 8, 8\): "),
        ({"name": "alexnet", "in_shape": (1, 64, 64)}, "^in_channels: expected 3 with the imagenet stem, got 1"),
        (
            {"name": "resnet81"},
            "^arch: expected mlp, conv, convres or a classifier of torchvision, got 'resnet81'; did",
        ),
    ],
)
def test_a_classifier_refuses_what_it_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier(**arguments)


@pytest.mark.parametrize("points", [("pre_bn",), ("paper", "pre_bn"), (), "out"])
def test_a_classifier_has_one_capture_point(points):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match=r"^points: expected paper or out for resnet18, which has no other, got"):
        networks.measured_layers(torch.nn.Identity(), "resnet18", depth=0, points=points)
