from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from autoprune.errors import AutopruneError, UsageError
from autoprune.models import BUILT_IN, CifarResNet, load_model

_FILE = """
from torch import nn
from helper import WIDTH

def build(num_classes=10):
    model = nn.Sequential(nn.Conv2d(1, WIDTH, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, num_classes))
    model.input_shape = (1, 16, 16)
    model.mean, model.std = (0.5,), (0.25,)
    return model

def silent():
    return nn.Sequential(nn.Conv2d(2, 3, 3))

def text():
    return "no module"

def broken():
    raise KeyError("oops")

value = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(_FILE)
    (tmp_path / "helper.py").write_text("WIDTH = 4\n")
    return str(tmp_path / "nets.py")


def test_built_in_without_weights_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    first = load_model("cifar-resnet20")
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), drawn)
    again = load_model("cifar-resnet20")
    assert first.fingerprint == again.fingerprint
    assert (first.input_shape, first.weights, first.model.training) == ((3, 32, 32), None, False)


def test_built_in_with_weights(tmp_path: Path) -> None:
    net = CifarResNet(3, 100)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    loaded = load_model("cifar-resnet20", weights=str(tmp_path / "w.safetensors"))
    x = loaded.example_input(3)
    assert torch.equal(x, loaded.example_input(3))
    torch.testing.assert_close(loaded.model(x), net.eval()(x))
    assert loaded.model(x).shape == (3, 100)


def test_weights_of_another_network(tmp_path: Path) -> None:
    save_file(CifarResNet(5).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"not in the model: layer1\.3.* and \d+ more"):
        load_model("cifar-resnet20", weights=str(tmp_path / "w.safetensors"))


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown model 'cifar-resnet5'\. Did you mean 'cifar-resnet56'\?"):
        load_model("cifar-resnet5")
    assert "cifar-resnet56" in BUILT_IN


def test_factory_in_a_file(source: str) -> None:
    loaded = load_model(f"{source}:build", num_classes=6)
    assert (loaded.input_shape, loaded.mean, loaded.std) == ((1, 16, 16), (0.5,), (0.25,))
    assert loaded.model(loaded.example_input()).shape == (2, 6)
    assert load_model(f"{source}:build", input_size=20).input_shape == (1, 20, 20)
    assert load_model(f"{source}:build", input_size=(20, 24)).input_shape == (1, 20, 24)


def test_factory_in_a_module() -> None:
    loaded = load_model("torchvision.models:squeezenet1_1", num_classes=5, input_size=64)
    assert (loaded.input_shape, loaded.mean) == ((3, 64, 64), ())
    assert loaded.model(loaded.example_input()).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("silent", UsageError, "does not say the size of its images"),
        ("text", UsageError, "returned a str; it must return a torch.nn.Module"),
        ("broken", AutopruneError, "failed: KeyError: 'oops'"),
        ("value", UsageError, "is a int and cannot be called"),
        ("missing", UsageError, "has no 'missing'"),
    ],
)
def test_factories_that_do_not_work(source: str, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_model(f"{source}:{name}").example_input()


def test_factory_that_does_not_say_its_size_can_be_told(source: str) -> None:
    assert load_model(f"{source}:silent", input_size=8).input_shape == (2, 8, 8)


@pytest.mark.parametrize("size", [0, (1, 2, 3, 4), (3, 0, 8)])
def test_sizes_that_are_none(size: int | tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="is no image's size"):
        load_model("cifar-resnet20", input_size=size)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("no_such_package.nets:build", "No module named"), ("nowhere/nets.py:build", "there is no file")],
)
def test_factories_that_are_not_there(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(spec)


def test_a_file_that_fails_is_not_half_imported(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import no_such_thing\n")
    with pytest.raises(UsageError, match="No module named 'no_such_thing'"):
        load_model(f"{path}:build")
    path.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 4, 3)\n")
    assert isinstance(load_model(f"{path}:build", input_size=8).model, nn.Conv2d)


def test_nan_weights_of_a_factory(tmp_path: Path) -> None:
    path = tmp_path / "nan.py"
    path.write_text(
        "import torch\ndef build():\n    net = torch.nn.Conv2d(3, 4, 3)\n"
        "    torch.nn.init.constant_(net.weight, float('nan'))\n    return net\n"
    )
    with pytest.raises(UsageError, match=r"NaN or infinite values in 'weight'"):
        load_model(f"{path}:build", input_size=8)


def test_torchvision_without_weights() -> None:
    loaded = load_model("torchvision:squeezenet1_1", num_classes=4)
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.mean == (0.485, 0.456, 0.406)
    assert loaded.transform is None
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_torchvision_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = SqueezeNet1_1_Weights.IMAGENET1K_V1
    state = squeezenet1_1().state_dict()
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(state, checkpoints / published.url.rpartition("/")[2])  # as if downloaded before
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1", "DEFAULT"):
        loaded = load_model("torchvision:squeezenet1_1", weights=name)
        assert torch.equal(loaded.model.state_dict()["classifier.1.bias"], state["classifier.1.bias"])
        assert loaded.transform is not None
        image = torch.randint(0, 256, (3, 300, 260), dtype=torch.uint8)
        torch.testing.assert_close(loaded.transform(image), published.transforms()(image))
    assert load_model("torchvision:squeezenet1_1", weights="DEFAULT", input_size=160).transform is None
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nowhere"))
    assert load_model("torchvision:squeezenet1_1", preprocessing="DEFAULT").transform is not None  # nothing is fetched
    assert load_model("torchvision:squeezenet1_1", preprocessing="net.pth").transform is None


def test_torchvision_names_that_are_unknown() -> None:
    with pytest.raises(UsageError, match=r"no classification model 'resnet5'\. Did you mean 'resnet5"):
        load_model("torchvision:resnet5")
    with pytest.raises(UsageError, match=r"no weights 'IMAGENET1K_V9'.* Known: IMAGENET1K_V1, DEFAULT"):
        load_model("torchvision:squeezenet1_1", weights="IMAGENET1K_V9")


def test_torchvision_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(AutopruneError, match=r"cannot be downloaded \(no route\)"):
        load_model("torchvision:squeezenet1_1", weights="DEFAULT")
