"""What labels are worth: the same search with and without them, compared image by image on the report part.

    python benchmarks/no_labels.py --data DATA --out OUT [--page docs/no_labels.md]

DATA holds ``cifar10/`` and ``weights/``. Both searches are ``autoprune search --budget B --episodes 10``, one with
``--no-labels``; both networks are then asked for the class of every report image, and the difference of their accuracies has its
95 % interval, paired by image. Runs that are there are not searched again.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from autoprune.data import load_data
from autoprune.models import load_model
from autoprune.runs import RunFolder, rebuild_run
from autoprune.support.files import write_text_atomic
from autoprune.support.tables import aligned

ROWS = [("20", budget, seed) for budget in ("0.5", "0.3") for seed in range(3)] + [("56", "0.5", 0)]
INTRO = """# What labels are worth

`autoprune search --budget B --episodes 10` with labels and with `--no-labels`, everything else equal: accuracy on the 2,979
report images of CIFAR-10, which neither search saw, and the difference with its 95 % interval, paired by image (other images, the
same two networks). That no label is read with `--no-labels` is a test (`tests/evaluation/test_label_free.py`, a data set that
raises when it is asked for one). Made by `python benchmarks/no_labels.py --data DATA --out OUT --page docs/no_labels.md`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    for row in ROWS:
        for labels in (True, False):
            search(row, labels, options.data, options.out)
        print(page([other for other in ROWS if _there(other, options.out)], options.data, options.out), flush=True)
    if options.page is not None:
        write_text_atomic(options.page, page(ROWS, options.data, options.out))


def run_folder(row: tuple[str, str, int], labels: bool, out: Path) -> Path:
    return out / f"{'-'.join(map(str, row))}{'' if labels else '-no-labels'}"


def _there(row: tuple[str, str, int], out: Path) -> bool:
    return all((run_folder(row, labels, out) / "report.json").is_file() for labels in (True, False))


def search(row: tuple[str, str, int], labels: bool, data: Path, out: Path) -> None:
    """Search, unless it was done."""
    net, budget, seed = row
    weights = data / "weights" / f"cifar10_resnet{net}.safetensors"
    command = [sys.executable, "-m", "autoprune", "search", "--out", str(run_folder(row, labels, out)), "--quiet"]
    command += ["--budget", budget, "--episodes", "10", "--seed", str(seed), "--model", f"cifar-resnet{net}"]
    command += [
        "--weights",
        str(weights),
        "--data",
        f"cifar10:{data / 'cifar10'}",
        *([] if labels else ["--no-labels"]),
    ]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, check=True)


def right(row: tuple[str, str, int], labels: bool, data: Path, out: Path) -> torch.Tensor:
    """Return which report images a run's network gets right, shape (N,)."""
    loaded = load_model(f"cifar-resnet{row[0]}")
    images = load_data(f"cifar10:{data / 'cifar10'}", mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
    model, found = rebuild_run(RunFolder(run_folder(row, labels, out))).model, []
    with torch.no_grad():
        for batch, classes in torch.utils.data.DataLoader(images.report, batch_size=256):
            found.append(model(batch).argmax(1) == classes)
    return torch.cat(found).double()


def page(rows: list[tuple[str, str, int]], data: Path, out: Path) -> str:
    """Return the page of rows that are there."""
    lines, differences = [], []
    for row in rows:
        with_labels, without = (right(row, labels, data, out) for labels in (True, False))
        difference = 100 * (without - with_labels)
        half = 1.96 * float(difference.std()) / math.sqrt(len(difference))
        if row[0] == "20":
            differences.append(float(difference.mean()))
        lines.append(
            (
                f"ResNet-{row[0]}, {row[1]}, {row[2]}",
                f"{100 * float(with_labels.mean()):.2f}",
                f"{100 * float(without.mean()):.2f}",
                f"{float(difference.mean()):+.2f} ± {half:.2f}",
            )
        )
    mean = f"{statistics.mean(differences):+.2f}" if differences else "-"
    head = ("network, budget, seed", "with labels", "without", "difference")
    table = aligned(head, lines)
    return "\n".join(
        [INTRO, "```text", table, "```", "", f"Mean difference over the ResNet-20 rows: {mean} points.", ""]
    )


if __name__ == "__main__":
    main()
