"""Parts of a network are cut on what they get while the whole of it runs, which need not be traceable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import captured, parts_and_inputs, proved_graph
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery

IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(20)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
        fine = self.second(F.relu(self.norm(self.first(x)))) * scale
        return {"fine": fine, "coarse": F.max_pool2d(fine, 2)}


class Detector(nn.Module):
    """What comes out hangs on values: only a few places are kept, and their number differs from image to image."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.backbone = Backbone()
        self.model.neck = nn.Sequential(nn.Conv2d(6, 18, 1), nn.ReLU(), nn.Conv2d(18, 6, 1))
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        found = self.model.backbone(images.flip(-1), scale=2.0)
        scores = self.head(self.model.neck(found["fine"]))
        return [image[image > image.mean() + 0.1] for image in scores]


def make(kind: type[nn.Module] = Detector) -> nn.Module:
    torch.manual_seed(0)
    return kind().double().eval()


@pytest.mark.parametrize(
    ("part", "groups"),
    [
        (["model.backbone"], ["model.backbone.first"]),
        (["model.backbone", "model.neck"], ["model.backbone.first", "model.neck.0"]),
    ],
)
def test_a_part_is_cut_inside_and_answers_as_if_masked(part: list[str], groups: list[str]) -> None:
    model = make()
    graph = proved_graph(model, IMAGES, part=part)
    assert [group.name for group in graph.groups if group.reason is None] == groups
    alone, inputs = parts_and_inputs(model, IMAGES, part)
    found = check_surgery(alone, graph, inputs, policies=4)
    assert found.distance < 1e-9
    assert (found.macs_wrong, found.params_wrong) == (0, 0)
    small = prune_model(model, graph, {name: np.arange(5) for name in groups})
    assert small.model.backbone.first.out_channels == 5
    assert small.state_dict().keys() == model.state_dict().keys()
    assert len(small(IMAGES)) == 3


def test_a_part_gets_what_the_network_gives_it_and_leaves_no_trace() -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = captured(model, ["model.backbone"], [IMAGES[:2], IMAGES[2:]])
    ((args, kwargs),) = inputs.args
    assert torch.equal(args[0], IMAGES.flip(-1))
    assert kwargs == {"scale": 2.0}
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    whole = captured(model, [], [{"pixels": IMAGES}], lambda network, batch: network(batch["pixels"] + 1))
    assert torch.equal(whole.tensors[0], IMAGES + 1)


def test_no_more_is_held_than_fits() -> None:
    inputs = captured(make(), ["model.backbone"], [IMAGES, IMAGES, IMAGES], most=IMAGES.numel() * 8 + 1)
    assert len(inputs) == 2 * len(IMAGES)


def test_a_network_that_cannot_be_traced_names_its_parts_that_can() -> None:
    with pytest.raises(AutopruneError, match=r"can be pruned alone: --part model\.backbone, --part model\.neck\."):
        proved_graph(make(), IMAGES)


class Tied(Detector):
    """The second convolution's input channels are read outside of the part as well, and a module of it is called there."""

    def forward(self, images: Tensor) -> Any:
        found = self.model.backbone(images)
        return self.model.neck(found["fine"]) + self.model.neck[0](found["fine"])[:, :6]


def test_what_the_rest_of_the_network_uses_stays_whole() -> None:
    graph = proved_graph(make(Tied), IMAGES, part=["model.neck"])
    assert graph.groups[0].reason == "it is also used outside of the part that is pruned"
    shared = make()
    shared.other = nn.Conv2d(3, 20, 3).double()
    shared.other.weight = shared.model.backbone.first.weight
    graph = proved_graph(shared, IMAGES, part=["model.backbone"])
    assert all(group.reason is not None for group in graph.groups)


class Twice(Detector):
    def forward(self, images: Tensor) -> Any:
        return self.model.backbone(images)["fine"] + self.model.backbone(images)["fine"]


@pytest.mark.parametrize(
    ("kind", "part", "batches", "says"),
    [
        (Twice, ["model.neck"], [IMAGES], r"The part 'model\.neck' is never called"),
        (Twice, ["model.backbone"], [IMAGES], r"The part 'model\.backbone' is called 2 times"),
        (
            Detector,
            ["model.backbone"],
            [IMAGES, IMAGES[:, :, :8]],
            r"from batch to batch \(shape \(3, 3, 12, 12\), then shape \(3, 3, 8, 12\)\)",
        ),
        (
            Detector,
            ["model.backbone"],
            [IMAGES[:, :2]],
            "does not run on a batch .*check the batch, or say how with run=",
        ),
    ],
)
def test_a_part_that_is_not_called_as_it_must_be_is_refused(
    kind: type[nn.Module], part: list[str], batches: list[Tensor], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        captured(make(kind), part, batches)


class Bundle:
    def __init__(self, tensors: Tensor) -> None:
        self.tensors = tensors


class Bundled(Detector):
    def __init__(self) -> None:
        super().__init__()
        self.model.neck.forward = lambda bundle: bundle.tensors + 1

    def forward(self, images: Tensor) -> Any:
        return self.model.neck(Bundle(self.model.backbone(images)["fine"]))


def test_what_hides_tensors_is_no_input_of_a_part() -> None:
    with pytest.raises(UsageError, match=r"'model\.neck' cannot be pruned alone: .*(no tensor|Bundle, whose tensors)"):
        captured(make(Bundled), ["model.neck"], [IMAGES])
    with pytest.raises(UsageError, match="no batch"):
        captured(make(), ["model.neck"], [])


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (["model.backbon"], r"no part 'model\.backbon'\. Did you mean 'model\.backbone'"),
        (["model", "model.backbone"], r"'model\.backbone' lies in the part 'model'"),
        (["model.neck", "model.neck"], "named twice"),
    ],
)
def test_paths_that_name_no_parts_are_refused(part: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        proved_graph(make(), IMAGES, part=part)


class OfList(nn.Module):
    """Takes images one by one in a list, of any sizes, as torchvision's detectors do."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.backbone, self.mean = (
            nn.Sequential(nn.Conv2d(channels, 10, 3), nn.ReLU(), nn.Conv2d(10, 4, 3)),
            [0.1] * channels,
        )

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        side = min(min(image.shape[1:]) for image in images)
        batch = torch.stack([image[:, :side, :side] - torch.tensor(self.mean)[:, None, None] for image in images])
        return [{"scores": scores} for scores in self.backbone(batch)]


class Sequences(nn.Module):
    """A list of batches (N, T, C), which is none of single images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 9), nn.Linear(9, 2)

    def forward(self, given: list[Tensor]) -> Tensor:
        return sum(self.last(F.relu(self.first(one))) for one in given)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_list_of_single_images_goes_with_a_part_and_says_so_without(channels: int) -> None:
    torch.manual_seed(0)
    model = OfList(channels).double().eval()
    images = [torch.randn(channels, side, 12, dtype=torch.float64) for side in (12, 14, 15)]
    graph = proved_graph(model, images, part="backbone")
    assert [group.name for group in graph.groups if group.reason is None] == ["backbone.0"]
    traced, inputs = parts_and_inputs(model, images, "backbone")
    assert len(inputs) == 3
    found = check_surgery(traced, graph, inputs, policies=3)
    assert found.distance < 1e-12 < found.effect
    with pytest.raises(UsageError, match=r"a list of 3 single images \(C, H, W\).*--part backbone"):
        proved_graph(model, images)
    for part in ((), "backbone"):
        with pytest.raises(UsageError, match=r"part='backbone'.*run=lambda model, batch"):
            autoprune.search(model, images, calibration=[images], evaluate=[images], part=part)


def test_a_list_of_batches_is_no_list_of_images() -> None:
    torch.manual_seed(0)
    graph = proved_graph(Sequences().double().eval(), [torch.randn(3, 4, 5).double(), torch.randn(3, 4, 5).double()])
    assert [group.name for group in graph.groups if group.reason is None] == ["first"]
