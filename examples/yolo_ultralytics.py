"""A YOLO of ultralytics: inspected, pruned without labels, fine-tuned by its own trainer, exported to ONNX.

    pip install ultralytics                       # AGPL-3.0; autoprune neither needs nor contains it
    python examples/yolo_ultralytics.py           # random weights: shows the way, not a result
    python examples/yolo_ultralytics.py my.pt     # your own weights (and below your own pictures)

The pictures are drawn: discs on noise, with a box each. Nothing is downloaded and no display is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import autoprune

try:
    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionTrainer
except ImportError:
    raise SystemExit("This example needs ultralytics, which is not installed: pip install ultralytics.") from None

SIDE, PICTURES, EPOCHS = 160, 16, 1


def draw(folder: Path) -> tuple[Path, Tensor]:
    """Write a small data set as ultralytics reads it; return its YAML file and the pictures, shape (N, 3, H, W) in [0, 1]."""
    random, pictures = np.random.default_rng(0), []
    row, column = np.mgrid[:SIDE, :SIDE]
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        picture = random.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
        radius = random.integers(10, 40)
        y, x = random.integers(radius, SIDE - radius, 2)
        picture[(row - y) ** 2 + (column - x) ** 2 < radius**2] = random.integers(150, 255, 3)
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        box = f"0 {x / SIDE:.4f} {y / SIDE:.4f} {2 * radius / SIDE:.4f} {2 * radius / SIDE:.4f}\n"
        (folder / "labels" / f"{number}.txt").write_text(box)
        pictures.append(torch.from_numpy(picture).permute(2, 0, 1) / 255)
    data = folder / "data.yaml"
    data.write_text(f"path: {folder.resolve()}\ntrain: images\nval: images\nnames: {{0: disc}}\n")
    return data, torch.stack(pictures)


def main() -> None:
    """Inspect, search, fine-tune, export."""
    data, pictures = draw(Path("yolo-scenes"))
    yolo = YOLO(sys.argv[1] if len(sys.argv) > 1 else "yolo11n.yaml")
    dense = yolo.model.float().eval()
    found = autoprune.inspect_model(dense, pictures[:2])
    prunable = sum(group["prunable"] for group in found["groups"])
    print(
        f"{prunable} of {len(found['groups'])} groups of channels can be pruned, {found['macs']:,} MACs at {SIDE} pixels."
    )
    result = autoprune.search(
        dense,
        pictures[:2],
        calibration=pictures,
        evaluate=pictures,  # pictures alone: compared with the dense network's own answers
        labels=False,
        divergence="relative",
        budget=0.7,
        agent="uniform",  # one policy; leave it out, and ask for some episodes, for a search
        baselines=(),
        finish_steps=0,
    )
    print(result.table)
    result.save("yolo-pruned")
    small = result.model

    class KeepsTheNetwork(DetectionTrainer):
        """ultralytics' trainer builds a network from its YAML file, which is the dense one; this one takes ours."""

        def get_model(self, cfg: object = None, weights: object = None, verbose: bool = True) -> nn.Module:
            """Return the pruned network."""
            return small

    for parameter in small.parameters():
        parameter.requires_grad_(True)
    yolo.train(
        trainer=KeepsTheNetwork,
        data=str(data),
        epochs=EPOCHS,
        imgsz=SIDE,
        batch=8,
        device="cpu",
        workers=0,
        plots=False,
    )
    tuned = yolo.model.float().eval()
    print(f"Fine-tuned: {sum(p.numel() for p in tuned.parameters()):,} parameters, {type(tuned).__name__}.")
    autoprune.export_model(tuned, pictures[:2], Path("yolo-pruned/model.onnx"), format="onnx")
    print("Wrote yolo-pruned/model.onnx.")


if __name__ == "__main__":
    main()
