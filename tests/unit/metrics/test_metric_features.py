import pickle

import pytest
import torch
from torch import nn

from limbeck.errors import DataError, RecipeError, WeightsError
from limbeck.metrics.features import ClassifierFeatures, InceptionFeatures, MapFeatures, resize_like_tensorflow1
from limbeck.metrics.inception import InceptionV3
from limbeck.networks.given.external import Wrapped


class Flat(nn.Module):
    image_shape = (1, 4, 4)
    classes = 3

    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Linear(16, 5), nn.Linear(5, 3)

    def features(self, image):
        return self.hidden(image.flatten(1)).relu()

    def forward(self, image):
        return self.last(self.features(image))


def test_classifier_features_are_what_the_last_layer_sees():
    network = Flat()
    extractor = ClassifierFeatures(network, "flat")
    features, logits = extractor(torch.randn(6, 1, 4, 4))
    assert (extractor.name, extractor.dimension) == ("flat", 5)
    torch.testing.assert_close(network.last(features), logits)


class Maps(nn.Module):
    """A foreign classifier; its last layer may be given something else than the features that are asked for."""

    def __init__(self, scale):
        super().__init__()
        self.passes, self.scale = 0, scale
        self.body, self.pool, self.fc = nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(5, 3)

    def forward(self, image):
        self.passes += 1
        return self.fc(self.pool(self.body(image)).flatten(1) * self.scale)


@pytest.mark.parametrize(("scale", "passes"), [(1, 1), (2, 2)])
def test_wrapped_classifiers_take_one_pass_if_their_last_layer_is_given_the_features(scale, passes):
    module = Maps(scale)
    network = Wrapped(module, "classifier", image_shape=(1, 6, 6), features="pool").eval()
    extractor, image = ClassifierFeatures(network, "maps"), torch.randn(4, 1, 6, 6)
    expected = network.features(image), network(image)
    module.passes = 0
    features, logits = extractor(image)
    assert module.passes == passes
    assert torch.equal(features, expected[0]) and torch.equal(logits, expected[1])


def test_classifier_features_refuse_other_images():
    with pytest.raises(DataError, match=r"'flat': expected images \(1, 4, 4\), found \(3, 8, 8\)"):
        ClassifierFeatures(Flat(), "flat")(torch.zeros(2, 3, 8, 8))


def test_fingerprint_is_that_of_the_weights_only():
    torch.manual_seed(0)
    network = Flat()
    first = ClassifierFeatures(network, "a").fingerprint()
    other = Flat()
    assert ClassifierFeatures(other, "a").fingerprint() != first
    other.load_state_dict(network.state_dict())
    assert ClassifierFeatures(other, "b").fingerprint() == first


def test_fingerprint_of_bfloat16_weights():
    assert len(ClassifierFeatures(Flat().float(), "a").fingerprint()) == 16
    extractor = ClassifierFeatures(Flat(), "a")
    before = extractor.fingerprint()
    assert extractor.bfloat16().fingerprint() != before


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights that keep activations in range, in the form in which the converted file stores them."""
    torch.manual_seed(0)
    network = InceptionV3()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def inception(weights):
    return InceptionFeatures(str(weights))


def test_inception_parameter_count():
    # torchvision states 27,161,264 for its Inception-v3 with 1000 classes and the auxiliary classifier. The latter:
    # 1x1 convolution 768 -> 128, 5x5 convolution 128 -> 768 (each with batch norm), linear 768 -> 1000.
    auxiliary = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + (768 + 1) * 1000
    expected = 27_161_264 - auxiliary + (2048 + 1) * (1008 - 1000)
    assert sum(p.numel() for p in InceptionV3().parameters()) == expected == 23_850_960


# Output channels and kernel of every convolution, in the order of Szegedy et al. 2015 and the published names.
PUBLISHED = """
Conv2d_1a_3x3 32 3 3 3|Conv2d_2a_3x3 32 32 3 3|Conv2d_2b_3x3 64 32 3 3|Conv2d_3b_1x1 80 64 1 1
Conv2d_4a_3x3 192 80 3 3|Mixed_5b.branch1x1 64 192 1 1|Mixed_5b.branch5x5_1 48 192 1 1
Mixed_5b.branch5x5_2 64 48 5 5|Mixed_5b.branch3x3dbl_3 96 96 3 3|Mixed_5b.branch_pool 32 192 1 1
Mixed_5c.branch_pool 64 256 1 1|Mixed_5d.branch3x3dbl_1 64 288 1 1|Mixed_6a.branch3x3 384 288 3 3
Mixed_6a.branch3x3dbl_3 96 96 3 3|Mixed_6b.branch7x7_2 128 128 1 7|Mixed_6b.branch7x7_3 192 128 7 1
Mixed_6b.branch7x7dbl_2 128 128 7 1|Mixed_6c.branch7x7dbl_5 192 160 1 7|Mixed_6d.branch7x7dbl_4 160 160 7 1
Mixed_6e.branch7x7dbl_3 192 192 1 7|Mixed_6e.branch_pool 192 768 1 1|Mixed_7a.branch3x3_2 320 192 3 3
Mixed_7a.branch7x7x3_2 192 192 1 7|Mixed_7a.branch7x7x3_3 192 192 7 1|Mixed_7a.branch7x7x3_4 192 192 3 3
Mixed_7b.branch1x1 320 1280 1 1|Mixed_7b.branch3x3_2a 384 384 1 3|Mixed_7b.branch3x3_2b 384 384 3 1
Mixed_7b.branch3x3dbl_1 448 1280 1 1|Mixed_7c.branch3x3dbl_2 384 448 3 3|Mixed_7c.branch3x3dbl_3a 384 384 1 3
Mixed_7c.branch3x3dbl_3b 384 384 3 1|Mixed_7c.branch_pool 192 2048 1 1
"""


def test_inception_parameter_names_and_shapes():
    state = InceptionV3().state_dict()
    for row in PUBLISHED.replace("\n", "|").strip("|").split("|"):
        name, *shape = row.split()
        assert state[f"{name}.conv.weight"].shape == tuple(map(int, shape)), name
        for part in ("weight", "bias", "running_mean", "running_var"):
            assert state[f"{name}.bn.{part}"].shape == (int(shape[0]),), name
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["fc.bias"].shape == (1008,)
    assert sum(name.endswith("conv.weight") for name in state) == 94


def test_inception_grid_sizes():
    """The sizes of table 1 of the paper: 35x35x288, 17x17x768, 8x8x1280, 8x8x2048."""
    network, sizes = InceptionV3().eval(), {}
    for name in ("Mixed_5d", "Mixed_6e", "Mixed_7a", "Mixed_7c"):
        getattr(network, name).register_forward_hook(lambda m, i, o, name=name: sizes.update({name: o.shape[1:]}))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    assert sizes == {
        "Mixed_5d": (288, 35, 35), "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8), "Mixed_7c": (2048, 8, 8)
    }  # fmt: skip


def test_inception_forward(inception):
    image = torch.rand(2, 1, 28, 28) * 2 - 1
    features, logits = inception(image)
    assert features.shape == (2, 2048)
    assert (features >= 0).all()  # the mean of ReLUs
    assert features.std() > 1e-3
    torch.testing.assert_close(logits, features @ inception.network.fc.weight.T)  # without the bias
    torch.testing.assert_close(inception(image.expand(-1, 3, -1, -1))[0], features)  # grey is repeated


def test_inception_rounds_to_256_levels(inception):
    level = torch.randint(0, 256, (1, 3, 20, 20))
    image = level / 127.5 - 1
    features = inception(image)[0]
    torch.testing.assert_close(inception(image + 0.003)[0], features)  # less than half a level: 1/255
    assert not torch.allclose(inception(image + 0.006)[0], features)
    with torch.no_grad():
        by_hand = inception.network((resize_like_tensorflow1(level.float(), 299) - 128) / 128)
    torch.testing.assert_close(features, by_hand)


def test_inception_pools_as_tensorflow_does(inception):
    """Of a constant image every average pool that leaves out the padding returns the constant, to the border."""
    pools = []
    block = inception.network.Mixed_5b
    hook = block.branch_pool.register_forward_hook(lambda m, i, o: pools.append(i[0]))
    last = []
    other = inception.network.Mixed_7c.branch_pool.register_forward_hook(lambda m, i, o: last.append(i[0]))
    with torch.no_grad():
        block(torch.full((1, 192, 35, 35), 2.0))
        x = torch.zeros(1, 2048, 8, 8)
        x[..., 3, 3] = 9.0
        inception.network.Mixed_7c(x)
    hook.remove()
    other.remove()
    torch.testing.assert_close(pools[0], torch.full((1, 192, 35, 35), 2.0))
    assert last[0][0, 0, 2:5, 2:5].eq(9).all()  # the last block pools by maximum
    assert last[0].sum() == 9 * 9 * 2048


def test_resize_by_hand():
    """TensorFlow 1, align_corners=False: output i at i·2/4 = 0, 0.5, 1, 1.5 of the input, the last beyond its end."""
    row = torch.tensor([[[[10.0, 20.0], [30.0, 60.0]]]])
    expected = torch.tensor(
        [[10.0, 15.0, 20.0, 20.0], [20.0, 30.0, 40.0, 40.0], [30.0, 45.0, 60.0, 60.0], [30.0, 45.0, 60.0, 60.0]]
    )
    torch.testing.assert_close(resize_like_tensorflow1(row, 4)[0, 0], expected)


def test_resize_smaller_takes_the_pixels_it_meets():
    image = torch.arange(36.0).view(1, 1, 6, 6)
    torch.testing.assert_close(resize_like_tensorflow1(image, 3), image[..., ::2, ::2])  # nothing is smoothed


def test_inception_refuses_other_channels(inception):
    with pytest.raises(DataError, match=r"N, 1 or 3, H, W\), found \(1, 4, 8, 8\)"):
        inception(torch.zeros(1, 4, 8, 8))


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.pth: no such file; .*pt_inception-2015-12-05-6726825d\.pth"):
        InceptionFeatures(str(tmp_path / "nothing.pth"))


def test_wrong_architecture_names_tensors_and_shapes(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    state["fc.weight"] = torch.zeros(1000, 2048)
    del state["Mixed_5b.branch1x1.conv.weight"]
    state["AuxLogits.fc.bias"] = torch.zeros(1000)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError) as error:
        InceptionFeatures(str(tmp_path / "other.pth"))
    message = str(error.value)
    assert "3 tensors differ" in message
    assert "Mixed_5b.branch1x1.conv.weight: expected (64, 192, 1, 1), found nothing" in message
    assert "fc.weight: expected (1008, 2048), found (1000, 2048)" in message
    assert "AuxLogits.fc.bias: expected nothing, found (1000,)" in message


class Code:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", ["code", "truncated", "empty", "text", "list", "module"])
def test_unusable_files_are_named(content, weights, tmp_path, capsys):
    path = tmp_path / "bad.pth"
    if content == "code":
        path.write_bytes(pickle.dumps({"fc.weight": Code()}, protocol=2))
    elif content == "truncated":
        path.write_bytes(weights.read_bytes()[:100_000])
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("these are no weights")
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    else:
        torch.save(nn.Linear(1, 1), path)
    with pytest.raises(WeightsError, match=r"bad\.pth: expected"):
        InceptionFeatures(str(path))
    assert "executed" not in capsys.readouterr().out


def test_map_features_are_means_over_places_and_know_no_classes():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 5, 3)
    extractor = MapFeatures(network, "maps", scale=4.0)
    image = torch.rand(2, 3, 9, 12)
    features, logits = extractor(image)
    torch.testing.assert_close(features, network(image).flatten(2).mean(2) / 4)
    assert logits.shape == (2, 0) and (extractor.name, extractor.dimension) == ("maps", 5)
    assert extractor.fingerprint() != MapFeatures(network, "maps", scale=2.0).fingerprint()


def test_map_features_refuse_what_gives_no_maps():
    with pytest.raises(RecipeError, match=r"MapFeatures.scale: expected a number above 0, found 0"):
        MapFeatures(nn.Conv2d(3, 5, 3), "maps", scale=0)
    with pytest.raises(DataError, match=r"'flat': expected a network that returns maps .*, found \(1, 12288\)"):
        MapFeatures(nn.Flatten(), "flat")
