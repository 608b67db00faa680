"""What the default command costs on the CIFAR ResNets, in dense passes, and what it finds; beside tables of 100 policies.

    python benchmarks/default_run.py --data DATA --out OUT [--page docs/default_run.md]

DATA holds ``cifar10/`` and ``weights/``. Each row is ``autoprune search --budget B`` in a process of its own: all its CPU time
(imports, loading, preparing, scoring, finishing) over that of one dense pass over the 2,000 search images in the same run, its
peak memory, the accuracy on the report part (looked at once a row, never to choose anything), and why it ended. Rows that are
there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from autoprune.support.files import write_text_atomic
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tables import aligned

ROWS = [
    (net, budget, seed)
    for seed in range(4)
    for net, budget in (("20", "0.5"), ("20", "0.3"), ("56", "0.5"), ("56", "0.3"))
    if net == "20" or seed < 2
]
BEFORE = {("20", "0.5"): 89.28, ("20", "0.3"): 83.81, ("56", "0.5"): 92.65, ("56", "0.3"): 88.97}
"""Mean report accuracy of ``auto`` after 100 policies and nine final reconstructions, docs/comparison.md."""


INTRO = """# What the default command costs

`autoprune search --budget B` on published CIFAR ResNets, no other option. Passes: all CPU time of the process (imports and
loading included) over that of one dense pass over the 2,000 search images in the same run, one thread; of these preparing,
scoring and finishing as the run itself says. Report: accuracy on 2,979 other images, no fine-tuning. Made by
`python benchmarks/default_run.py --data DATA --out OUT --page docs/default_run.md`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", help="rows to run, for instance 20-0.5-0,56-0.3-1; all by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [row for row in ROWS if options.only is None or "-".join(map(str, row)) in options.only.split(",")]
    for net, budget, seed in wanted:
        path = options.out / f"{net}-{budget}-{seed}.json"
        if not path.is_file():
            write_json_atomic(path, measured(net, budget, seed, data=options.data, out=options.out))
            print(path.name, json.dumps(read_json(path)), flush=True)
    rows = {row: found for row in ROWS if (found := _read(options.out, row)) is not None}
    text = page(rows)
    print(text)
    if options.page is not None:
        write_text_atomic(options.page, text)


def measured(net: str, budget: str, seed: int, *, data: Path, out: Path) -> dict[str, Any]:
    """Run one row and return its figures."""
    run = out / f"run-{net}-{budget}-{seed}"
    command = [sys.executable, "-m", "autoprune", "search", "--budget", budget, "--seed", str(seed), "--out", str(run)]
    command += [
        "--model",
        f"cifar-resnet{net}",
        "--weights",
        str(data / "weights" / f"cifar10_resnet{net}.safetensors"),
    ]
    command += ["--data", f"cifar10:{data / 'cifar10'}", "--quiet"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    report = read_json(run / "report.json")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "cpu_s": cpu,
        "dense_s": report["dense_seconds"],
        "passes": cpu / report["dense_seconds"],
        "of_these": report["passes"],
        "peak_mb": usage.ru_maxrss / 1e3,
        "wall_s": report["wall_s"],
        "accuracy": 100 * report["final"]["accuracy"],
        "search_accuracy": 100 * report["final"]["search_accuracy"],
        "dense": 100 * report["dense"]["accuracy"],
        "ratio": report["macs_ratio"],
        "exported": report["exported"],
        "policies": report["policies_scored_in_all"],
        "stopped": report["stopped"]["text"] if report["stopped"] else "all episodes",
    }


def _read(out: Path, row: tuple[str, str, int]) -> dict[str, Any] | None:
    path = out / f"{'-'.join(map(str, row))}.json"
    return read_json(path) if path.is_file() else None


def page(rows: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    """Return the page of the rows that are there."""
    lines, means = [], []
    parts_of = ("preparing", "scoring", "finishing")
    for net, budget in BEFORE:
        own = [found for row, found in rows.items() if row[:2] == (net, budget)]
        for (_, _, seed), found in ((row, f) for row, f in rows.items() if row[:2] == (net, budget)):
            parts = found["of_these"]
            lines.append(
                (
                    f"ResNet-{net}, {budget}, {seed}",
                    f"{found['passes']:.1f}",
                    *(f"{parts[key]:.1f}" for key in parts_of),
                    f"{found['peak_mb'] / 1e3:.2f}",
                    f"{found['policies']}",
                    found["exported"],
                    f"{found['search_accuracy']:.2f}",
                    f"{found['accuracy']:.2f}",
                )
            )
        if own:
            mean = statistics.mean(found["accuracy"] for found in own)
            spread = f"{statistics.stdev(found['accuracy'] for found in own):.2f}" if len(own) > 1 else "-"
            most = max(found["passes"] for found in own)
            before = BEFORE[net, budget]
            means.append(
                (
                    f"ResNet-{net}, {budget}",
                    f"{len(own)}",
                    f"{most:.1f}",
                    f"{mean:.2f}",
                    spread,
                    f"{before:.2f}",
                    f"{mean - before:+.2f}",
                )
            )
    head = (
        "network, budget, seed",
        "passes",
        "preparing",
        "scoring",
        "finishing",
        "GB",
        "policies",
        "result",
        "search",
        "report",
    )
    head2 = ("network, budget", "seeds", "most passes", "report", "sd", "100 policies", "difference")
    missing = [f"ResNet-{n} at {b}, seed {s}" for n, b, s in ROWS if (n, b, s) not in rows]
    ended = sorted({f"`{found['stopped']}`" for found in rows.values()})
    return "\n".join(
        [
            INTRO,
            "```text",
            aligned(head2, means),
            "```",
            "",
            "100 policies: `auto`, beside it the rules and `random`, of each three finished; about 320 passes"
            " ([comparison.md](comparison.md)).",
            "",
            "```text",
            aligned(head, lines),
            "```",
            "",
            f"Missing: {', '.join(missing)}." if missing else "All rows are there.",
            f"Why they ended: {'; '.join(ended)}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
