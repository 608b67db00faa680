"""Four tasks that are no classification, without labels: what half of the multiply-adds costs in the task's own metric.

    python benchmarks/tasks.py --out OUT [--only count,denoise,segment,detect] [--seeds 3] [--docs docs/tasks.md]

Scikit-learn's digits are composed into scenes of 48 x 48 pixels (clutter, noise, one to five digits of changing size); a small
network is trained for each task, in minutes, and kept in OUT. Then it is pruned to half of its multiply-adds by ``auto`` and by
``uniform``, each seed for itself: the search sees inputs alone. Each row is written as it is done; the same command continues.
Metrics (mAP at 0.5, mIoU, PSNR, MAE) are of 1,000 scenes that nothing else saw.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

import autoprune
from autoprune.agents import rule_policies
from autoprune.decisions import channel_groups
from autoprune.surgery import prune_model

SIDE, MOST, CLASSES, STRIDE = 48, 5, 10, 4
BUDGET, EXAMPLE = 0.5, torch.zeros(2, 1, 48, 48)
BEGIN, END = "<!-- tasks:begin -->", "<!-- tasks:end -->"
PARTS = {"train": 6000, "calibration": 1000, "search": 600, "report": 1000}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scenes:
    """Scenes and what is true of them.

    Attributes:
        images: Shape (N, 1, 48, 48), float32.
        clean: The same without noise and clutter.
        masks: Shape (N, 48, 48): 0 for the ground, else 1 + digit.
        boxes: Shape (N, 5, 5): x0, y0, x1, y1, digit of each digit; -1 where there are fewer.
    """

    images: Tensor
    clean: Tensor
    masks: Tensor
    boxes: Tensor

    @property
    def counts(self) -> Tensor:
        return (self.boxes[:, :, 4] >= 0).sum(1)


def scenes(part: str) -> Scenes:
    """Compose the scenes of a part: digits of three quarters of the data set for training, of the rest for the others."""
    digits = load_digits()
    cut = 3 * len(digits.images) // 4
    chosen = slice(0, cut) if part in ("train", "calibration") else slice(cut, None)
    pictures = torch.from_numpy(digits.images[chosen] / 16.0).float()
    labels = digits.target[chosen]
    count = PARTS[part]
    rng = np.random.default_rng(list(PARTS).index(part))
    clean = torch.zeros(count, 1, SIDE, SIDE)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    boxes = torch.full((count, MOST, 5), -1.0)
    clutter = torch.zeros(count, 1, SIDE, SIDE)
    for number in range(count):
        for place in range(int(rng.integers(1, MOST + 1))):
            for _ in range(30):
                side = int(rng.integers(11, 19))
                x, y = (int(v) for v in rng.integers(0, SIDE - side + 1, 2))
                if not masks[number, y : y + side, x : x + side].any():
                    break
            else:
                break
            which = int(rng.integers(len(pictures)))
            drawn = F.interpolate(pictures[which][None, None], (side, side), mode="bilinear")[0, 0]
            clean[number, 0, y : y + side, x : x + side] = drawn * float(rng.uniform(0.6, 1.0))
            masks[number, y : y + side, x : x + side] = torch.where(drawn > 0.3, 1 + int(labels[which]), 0)
            boxes[number, place] = torch.tensor([x, y, x + side, y + side, labels[which]])
        for _ in range(int(rng.integers(2, 6))):  # bars, which are no digits
            x, y = (int(v) for v in rng.integers(0, SIDE - 9, 2))
            wide, high = ((int(rng.integers(5, 10)), 1), (1, int(rng.integers(5, 10))))[int(rng.integers(2))]
            clutter[number, 0, y : y + high, x : x + wide] = float(rng.uniform(0.3, 0.8))
    noise = torch.from_numpy(rng.normal(0.0, 0.25, clean.shape)).float()
    return Scenes(torch.maximum(clean, clutter) + noise, clean, masks, boxes)


def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Counter(nn.Module):
    """Eight convolutions, one number out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(1, 12, 2), block(12, 16), block(16, 24, 2), block(24, 24), block(24, 24), block(24, 32, 2),
            block(32, 32), block(32, 32),
        )  # fmt: skip
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """Ten convolutions, the picture less its noise out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(1, 24, 2)
        self.body = nn.Sequential(*(block(24, 24) for _ in range(8)))
        self.last = nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x - F.pixel_shuffle(self.last(self.body(self.first(x))), 2)


class UNet(nn.Module):
    """Eleven convolutions with two skips, eleven classes for every pixel out."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(block(1, 12), block(12, 12))
        self.b = nn.Sequential(block(12, 20, 2), block(20, 20))
        self.c = nn.Sequential(block(20, 32, 2), block(32, 32), block(32, 32))
        self.up_b = nn.Sequential(block(52, 24))
        self.up_a = nn.Sequential(block(36, 16), block(16, 16))
        self.out = nn.Conv2d(16, 1 + CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        c = F.interpolate(self.c(b), scale_factor=2.0)
        d = F.interpolate(self.up_b(torch.cat([c, b], 1)), scale_factor=2.0)
        return self.out(self.up_a(torch.cat([d, a], 1)))  # type: ignore[no-any-return]


class Detector(nn.Module):
    """Ten convolutions: for every cell of 4 x 4 pixels ten class scores, and where its digit's box ends."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(1, 12, 2), block(12, 20), block(20, 32, 2), block(32, 32), block(32, 32), block(32, 32),
        )  # fmt: skip
        self.classes = nn.Sequential(block(32, 24), nn.Conv2d(24, CLASSES, 1))
        self.boxes = nn.Sequential(block(32, 24), nn.Conv2d(24, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.body(x)
        return {"classes": self.classes(found), "boxes": self.boxes(found)}


# What each task learns, and its metric.


def cells(truth: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a detector learns: class maps with a bump at every centre, distances to the box's sides, where they count."""
    count, side = len(truth.images), SIDE // STRIDE
    heat = torch.zeros(count, CLASSES, side, side)
    sides = torch.zeros(count, 4, side, side)
    there = torch.zeros(count, 1, side, side)
    middle = (torch.arange(side) + 0.5) * STRIDE
    for number, place in (truth.boxes[:, :, 4] >= 0).nonzero().tolist():
        x0, y0, x1, y1, label = truth.boxes[number, place].tolist()
        wide = (x1 - x0) / 6
        bump = torch.exp(
            -((middle[None, :] - (x0 + x1) / 2) ** 2 + (middle[:, None] - (y0 + y1) / 2) ** 2) / (2 * wide**2)
        )
        peak = divmod(int(bump.argmax()), side)
        bump[peak] = 1.0
        heat[number, int(label)] = torch.maximum(heat[number, int(label)], bump)
        inside = bump > 0.3
        far = torch.stack(
            torch.broadcast_tensors(
                middle[None, :] - x0, middle[:, None] - y0, x1 - middle[None, :], y1 - middle[:, None]
            )
        )
        sides[number, :, inside] = far[:, inside] / 16
        there[number, 0, inside] = 1.0
    return heat, sides, there


def detection_loss(found: dict[str, Tensor], heat: Tensor, sides: Tensor, there: Tensor) -> Tensor:
    """Penalty-reduced focal loss of centres (Law and Deng, 2018) and absolute error of sides."""
    p = found["classes"].float().sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = (heat == 1).float()
    focal = peak * (1 - p) ** 2 * p.log() + (1 - peak) * (1 - heat) ** 4 * p**2 * (1 - p).log()
    gap = (there * (found["boxes"].float() - sides).abs()).sum() / there.sum().clamp(min=1)
    return -focal.sum() / peak.sum().clamp(min=1) + gap


def detections(found: dict[str, Tensor], most: int = 20) -> list[tuple[Array, Array, Array]]:
    """Return boxes (n, 4), scores (n,) and labels (n,) of each image: the peaks of the class maps, less what overlaps."""
    from torchvision.ops import batched_nms

    heat = found["classes"].sigmoid()
    heat = heat * (heat == F.max_pool2d(heat, 3, 1, 1))
    side = heat.shape[-1]
    scores, places = heat.flatten(1).topk(most)
    out = []
    for number in range(len(heat)):
        labels, cell = places[number] // side**2, places[number] % side**2
        x, y = (cell % side + 0.5) * STRIDE, (cell // side + 0.5) * STRIDE
        reach = 16 * found["boxes"][number].flatten(1)[:, cell]
        boxes = torch.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], 1)
        kept = batched_nms(boxes, scores[number], torch.zeros_like(labels), 0.5)
        out.append((boxes[kept].numpy(), scores[number][kept].numpy(), labels[kept].numpy()))
    return out


def overlap(boxes: Array, other: Array) -> Array:
    """Return intersection over union of boxes with one another, shape (n, m)."""
    low = np.maximum(boxes[:, None, :2], other[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], other[None, :, 2:4])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area = [np.prod(np.clip(some[:, 2:4] - some[:, :2], 0, None), axis=1) for some in (boxes, other)]
    return np.asarray(both / np.maximum(area[0][:, None] + area[1][None] - both, 1e-9))


def matched(found: list[tuple[Array, Array, Array]], truth: Array) -> tuple[Array, Array]:
    """Match detections with what is there, at an overlap of 0.5, each box once, the surest first.

    Returns:
        A line for every detection, the surest first: image, class, whether it is right; and how many digits of each class are
        in each image, shape (N, 10).
    """
    lines: list[tuple[float, int, int, bool]] = []
    there = np.stack([(truth[:, :, 4] == label).sum(1) for label in range(CLASSES)], axis=1)
    for number, ((boxes, scores, labels), real) in enumerate(zip(found, truth, strict=True)):
        free = real[:, 4] >= 0
        for place in np.argsort(-scores):
            gaps = overlap(boxes[place : place + 1], real)[0] * (free & (real[:, 4] == labels[place]))
            hit = float(gaps.max()) >= 0.5
            if hit:
                free[int(gaps.argmax())] = False
            lines.append((float(scores[place]), number, int(labels[place]), hit))
    lines.sort(key=lambda line: -line[0])
    return np.array([line[1:] for line in lines], dtype=np.int64).reshape(-1, 3), there


def mean_ap(matches: tuple[Array, Array], weights: Array) -> float:
    """Return mean average precision, all-point interpolation (Pascal VOC 2010); each image counts as often as it was drawn."""
    lines, there = matches
    values = []
    for label in range(CLASSES):
        own = lines[lines[:, 1] == label]
        often = weights[own[:, 0]]
        right = np.cumsum(often * own[:, 2])
        precision = right / np.maximum(np.cumsum(often), 1e-9)
        recall = right / max(float(weights @ there[:, label]), 1e-9)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        values.append(float(np.sum(np.diff(np.concatenate([[0.0], recall])) * envelope)))
    return float(np.mean(values))


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        network: Makes the network.
        targets: What it learns, tensors by image.
        loss: Of outputs and targets.
        seen: What the metric takes of outputs and the scenes, image by image.
        metric: Of that, and how often each image counts, shape (N,).
        name: Of the metric.
        maximize: Whether more of it is better.
        divergence: How outputs are compared with the dense network's; None for what suits their shapes.
        epochs: Passes over the training scenes.
    """

    network: Callable[[], nn.Module]
    targets: Callable[[Scenes], tuple[Tensor, ...]]
    loss: Callable[..., Tensor]
    seen: Callable[[Any, Scenes], Any]
    metric: Callable[[Any, Array], float]
    name: str
    maximize: bool
    divergence: str | None = None
    epochs: int = 8


def decibels(found: Tensor, truth: Scenes) -> Array:
    return (-10 * (found.clamp(0, 1) - truth.clean).square().flatten(1).mean(1).log10()).double().numpy()


def errors(found: Tensor, truth: Scenes) -> Array:
    return (found[:, 0] - truth.counts).abs().double().numpy()


def mean(values: Array, weights: Array) -> float:
    return float(values @ weights / weights.sum())


def confusions(found: Tensor, truth: Scenes) -> Array:
    """Return how often each class is taken for each, image by image, shape (N, 11, 11)."""
    width = 1 + CLASSES
    pairs = (truth.masks * width + found.argmax(1)).flatten(1)
    return (
        torch.stack([torch.bincount(row, minlength=width**2) for row in pairs]).view(-1, width, width).double().numpy()
    )


def miou(tables: Array, weights: Array) -> float:
    table = np.tensordot(weights, tables, 1)
    both = np.diagonal(table)
    return float((both / (table.sum(0) + table.sum(1) - both)).mean())


def found_there(found: dict[str, Tensor], truth: Scenes) -> tuple[Array, Array]:
    return matched(detections(found), truth.boxes.numpy())


TASKS = {
    "count": Task(
        Counter,
        lambda s: (s.counts.float()[:, None],),
        lambda y, t: F.smooth_l1_loss(y.float(), t),
        errors,
        mean,
        "MAE",
        maximize=False,
    ),
    "denoise": Task(
        Denoiser, lambda s: (s.clean,), lambda y, t: F.mse_loss(y.float(), t), decibels, mean, "PSNR", maximize=True
    ),
    "segment": Task(
        UNet,
        lambda s: (s.masks,),
        lambda y, t: F.cross_entropy(y.float(), t),
        confusions,
        miou,
        "mIoU",
        maximize=True,
        divergence="kl",
        epochs=12,
    ),
    "detect": Task(Detector, cells, detection_loss, found_there, mean_ap, "mAP", maximize=True, epochs=16),
}


def outputs(model: nn.Module, images: Tensor) -> Any:
    """Return a network's answers to images."""
    with torch.no_grad():
        some = [model.eval()(batch) for batch in images.split(100)]
    return {k: torch.cat([s[k] for s in some]) for k in some[0]} if isinstance(some[0], dict) else torch.cat(some)


def trained(name: str, out: Path) -> nn.Module:
    """Return a task's network, trained if it was not yet."""
    task, path = TASKS[name], out / f"{name}.safetensors"
    torch.manual_seed(0)
    model = task.network()
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.eval()
    data = scenes("train")
    targets = task.targets(data)
    batch, began = 64, time.process_time()
    steps = task.epochs * (len(data.images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    model.train().to(memory_format=torch.channels_last)
    for _ in range(task.epochs):
        order = torch.randperm(len(data.images))
        for chosen in order[: len(order) // batch * batch].split(batch):
            found = model(data.images[chosen].to(memory_format=torch.channels_last))
            loss = task.loss(found, *(target[chosen] for target in targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    print(f"{name}: trained in {time.process_time() - began:.0f} s of processor time, last loss {loss.item():.4f}")
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return model.eval()


def measured(name: str, model: nn.Module, truth: Scenes) -> tuple[float, Any]:
    """Return a network's metric, and what it was made of."""
    seen = TASKS[name].seen(outputs(model, truth.images), truth)
    return TASKS[name].metric(seen, np.ones(len(truth.images))), seen


def interval(name: str, one: Any, other: Any, count: int, times: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two networks' metrics: both of the same scenes, drawn again."""
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(times):
        weights = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        gaps.append(TASKS[name].metric(one, weights) - TASKS[name].metric(other, weights))
    return float(np.quantile(gaps, 0.025)), float(np.quantile(gaps, 0.975))


def sliced(name: str, model: nn.Module, budget: float) -> nn.Module:
    """Return the network at the budget by one share for all groups: the channels of the largest weights, nothing refitted."""
    images = scenes("search").images[:64]
    problem = autoprune.make_problem(model, EXAMPLE, calibration=images, evaluate=images, budget=budget)
    counts = rule_policies(problem)[0]
    state = problem.model.state_dict()
    kept = {}
    for group, count in zip(channel_groups(problem.decisions), counts, strict=True):
        size = torch.zeros(group.size)
        for piece in group.slices:
            tensor = state[piece.tensor]
            if piece.dim == 0 and tensor.dim() > 1:  # the filters that make its channels
                size.index_add_(
                    0, torch.from_numpy(piece.unit), tensor.abs().flatten(1).sum(1)[torch.from_numpy(piece.position)]
                )
        kept[group.name] = np.sort(size.topk(count).indices.numpy())
    return prune_model(problem.model, problem.graph, kept)


def pruned(name: str, model: nn.Module, agent: str, seed: int, episodes: int, folder: Path) -> nn.Module:
    """Return what an agent finds at half of the multiply-adds, of inputs alone."""
    calibration, search = scenes("calibration").images, scenes("search").images
    found = autoprune.search(
        model,
        EXAMPLE,
        calibration=calibration,
        evaluate=search,
        labels=False,
        divergence=TASKS[name].divergence,
        budget=BUDGET,
        agent=agent,
        episodes=episodes,
        seed=seed,
        baselines="none",
        out=folder,
    )
    return found.model


def rows(name: str, out: Path, seeds: int, episodes: int) -> list[dict[str, Any]]:
    """Measure a task's networks, each once; what is written already is read."""
    path, truth = out / f"{name}.json", scenes("report")
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []

    def put(**row: Any) -> None:
        done.append(row)
        path.write_text(json.dumps(done, indent=1))
        print(name, {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}, flush=True)

    there = {(row["network"], row["seed"]) for row in done}
    model = trained(name, out)
    if ("dense", None) not in there:
        put(network="dense", seed=None, value=measured(name, model, truth)[0])
    if ("sliced", None) not in there:
        put(network="sliced", seed=None, value=measured(name, sliced(name, model, BUDGET), truth)[0])
    for seed in range(seeds):
        if ("auto", seed) in there:
            continue
        small = {
            agent: pruned(name, model, agent, seed, episodes, out / f"{name}-{agent}-s{seed}")
            for agent in ("auto", "uniform")
        }
        value, answers = measured(name, small["auto"], truth)
        other, others = measured(name, small["uniform"], truth)
        low, high = interval(name, answers, others, len(truth.images))
        put(network="uniform", seed=seed, value=other)
        put(network="auto", seed=seed, value=value, above_uniform=[value - other, low, high])
    return done


def table(names: Sequence[str], out: Path) -> str:
    """Return the page: a line a task, with what was asked of it."""
    lines = [
        "| task | metric | dense | sliced | uniform | auto | of dense | asked | auto less uniform (95 % interval, by seed) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        path = out / f"{name}.json"
        found = json.loads(path.read_text()) if path.is_file() else []
        if not any(row["network"] == "auto" for row in found):
            lines.append(f"| {name} | not run |" + " |" * 7)
            continue
        by = {
            kind: [row["value"] for row in found if row["network"] == kind]
            for kind in ("dense", "sliced", "uniform", "auto")
        }
        dense, auto = by["dense"][0], by["auto"]
        said = {
            "PSNR": (f"{np.mean(auto) - dense:+.2f} dB", "-0.5 dB", np.mean(auto) >= dense - 0.5),
            "MAE": (f"{np.mean(auto) / dense:.3f}", "at most 1.1", np.mean(auto) <= 1.1 * dense),
        }.get(TASKS[name].name, (f"{np.mean(auto) / dense:.3f}", "at least 0.95", np.mean(auto) >= 0.95 * dense))
        gaps = "; ".join(
            f"{row['above_uniform'][0]:+.4f} ({row['above_uniform'][1]:+.4f} to {row['above_uniform'][2]:+.4f})"
            for row in found
            if row["network"] == "auto"
        )
        cells = [f"{dense:.4f}", f"{by['sliced'][0]:.4f}"]
        cells += [
            f"{np.mean(by[kind]):.4f} ± {np.std(by[kind], ddof=1) if len(by[kind]) > 1 else 0:.4f}"
            for kind in ("uniform", "auto")
        ]
        missed = "" if said[2] else ": **missed**"
        lines.append(f"| {name} | {TASKS[name].name} | {' | '.join(cells)} | {said[0]} | {said[1]}{missed} | {gaps} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--docs", type=Path, help="a page with the table's place in it (docs/tasks.md)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.only.split(","):
        rows(name, asked.out, asked.seeds, asked.episodes)
    found = table(list(TASKS), asked.out)
    print(found)
    if asked.docs is not None:
        before, _, rest = asked.docs.read_text(encoding="utf-8").partition(BEGIN)
        asked.docs.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
