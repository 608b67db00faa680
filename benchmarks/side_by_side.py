"""autoprune and torch-pruning on the same networks and operators, judged by the same oracle.

    pip install -e '.[bench]'
    python benchmarks/side_by_side.py --out docs/side_by_side.md

Each tool works in a process of its own with a time limit per network. ``--only`` runs a part and prints without writing.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _coverage_table import table

from autoprune.support.files import write_text_atomic

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("autoprune", "torch-pruning")
SHARE = 6
"""A case gets such a part of a network's time."""
WAIT = 20
"""So many times the limit, which is one of CPU time, may pass on the clock."""
OUTCOMES = ("right", "refused", "wrong", "crashed", "hung")
NETWORKS = (
    *(
        "autoprune:cifar-resnet20",
        "autoprune:cifar-vgg16",
        "torchvision:alexnet",
        "torchvision:vgg11",
        "torchvision:resnet50",
    ),
    *("torchvision:resnext50_32x4d", "torchvision:densenet121", "torchvision:googlenet", "torchvision:inception_v3"),
    *(
        "torchvision:mobilenet_v2",
        "torchvision:mobilenet_v3_small",
        "torchvision:mnasnet0_5",
        "torchvision:efficientnet_b0",
    ),
    *("torchvision:regnet_y_400mf", "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"),
    *("torchvision:convnext_tiny", "torchvision:swin_t", "segmentation:deeplabv3_mobilenet_v3_large"),
    *("segmentation:lraspp_mobilenet_v3_large", "timm:resnest14d", "timm:res2net50_14w_8s", "timm:skresnet18"),
    *("timm:ghostnet_050", "timm:hrnet_w18_small", "timm:dla34", "timm:dpn68", "timm:cspresnet50", "timm:mixnet_s"),
    *(
        "timm:repvgg_a0",
        "timm:ese_vovnet19b_dw",
        "timm:nf_regnet_b0",
        "timm:poolformer_s12",
        "torchvision:vit_b_16",
    ),
)

HEAD = """# Side by side with torch-pruning

autoprune {autoprune} and torch-pruning {other} (PyTorch {torch}) on {networks} networks that differ and on the
{cases} cases of the operator table (`tests/graph/_nets.py`), with random weights. Made by

    pip install -e '.[bench]'
    python benchmarks/side_by_side.py --out docs/side_by_side.md

How it was judged. Each tool is asked to remove half of the channels wherever it says that it can, without hints about
the network. autoprune: `build_graph`, `prove`, a random half of every group that is proved. torch-pruning, as its
README and examples do: `BasePruner` with `GroupMagnitudeImportance(p=2)`, `pruning_ratio=0.5`, the layers that make
the network's output in `ignored_layers` (named to it by autoprune's graph), the numbers of attention heads in
`num_heads`, and for outputs that are no tensors an `output_transform`; no customized pruners (the examples' own
forward for timm's attention is left out, too). The oracle (`benchmarks/_judge.py`) knows neither tool: it tells from
the weights of the pruned network which channels each layer still reads, and runs the dense network, in double
precision, with every layer reading only those and every norm over channels counting only those. Random running
statistics and scales make sure that nothing hides.

- *right*: the output equals that of the masked dense network (relative distance at most 1e-8);
- *refused*: nothing is removed, or autoprune says that it cannot;
- *wrong*: the pruned network runs, but computes something else;
- *crashed*: the tool raises an exception (`MemoryError` beyond 16 GiB, too), or the pruned network does;
- *hung*: no answer in {limit:.0f} CPU seconds ({case_limit:.0f} for a case).

What a right answer is worth depends on how much was removed: *left* is the share of the parameters that are left.
"""


class Worker:
    """A process that prunes with one tool; it is started again after it was stopped."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str | None] = queue.Queue()

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("_pair_worker.py")), self.tool]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        answers: queue.Queue[str | None] = queue.Queue()
        self.process, self.answers = process, answers

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                answers.put(line)
            answers.put(None)

        threading.Thread(target=read, daemon=True).start()
        answers.get(timeout=300)  # it is ready

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, name: str, limit_s: float) -> dict[str, Any]:
        """Return the outcome for one network; never raises for what happens there."""
        if self.process is None:
            self.start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\t{limit_s}\n")
        self.process.stdin.flush()
        try:
            answer = self.answers.get(timeout=limit_s * WAIT)
        except queue.Empty:
            answer = None
        if answer is None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            out_of_time = self.process.poll() in (None, -signal.SIGPROF)
            self.stop()
            if out_of_time:
                return {"outcome": "hung", "why": f"no answer in {limit_s:.0f} CPU seconds"}
            return {"outcome": "crashed", "why": "the process ended"}
        found: dict[str, Any] = json.loads(answer)
        return found


def _cell(record: Mapping[str, Any]) -> str:
    left = f" ({100 * record['left']:.0f} % left)" if record["outcome"] == "right" else ""
    return record["outcome"] + left


def _counts(title: str, names: Sequence[str], found: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for tool in TOOLS:
        counter = Counter(found[tool, name]["outcome"] for name in names)
        left = sorted(found[tool, name]["left"] for name in names if found[tool, name]["outcome"] == "right")
        middle = f"{100 * left[len(left) // 2]:.0f} %" if left else "-"
        rows.append([title, tool, *(str(counter[outcome]) for outcome in OUTCOMES), middle])
    return rows


def render(found: Mapping[tuple[str, str], Mapping[str, Any]], networks: Sequence[str], cases: Sequence[str]) -> str:
    """Return the tables and what went wrong."""
    summary = [*_counts("networks", networks, found), *_counts("operators", cases, found)]
    parts = ["## Summary\n", table(["", "tool", *OUTCOMES, "left (median of right)"], summary)]
    for title, names in (("Networks", networks), ("Operators", cases)):
        rows = [[name.removeprefix("case:"), *(_cell(found[tool, name]) for tool in TOOLS)] for name in names]
        parts += [f"\n## {title}\n", table(["", *TOOLS], rows)]
    parts.append("\n## What went wrong\n")
    parts += [
        f"- {tool}, {name.removeprefix('case:')}: {record['outcome']}: {record['why']}".replace("|", "\\|")
        for (tool, name), record in found.items()
        if record["outcome"] not in ("right", "refused")
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="Where the document is written (Markdown); it is printed in any case.")
    parser.add_argument("--only", default="", help="Only networks and cases whose name contains this.")
    parser.add_argument("--limit-s", type=float, default=180.0, help="CPU time per network and tool.")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.graph._nets import CASES

    networks = [name for name in NETWORKS if options.only in name]
    cases = [f"case:{name}" for name in CASES if options.only in f"case:{name}"]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for tool in TOOLS:
        worker = Worker(tool)
        for number, name in enumerate([*networks, *cases], 1):
            found[tool, name] = worker.ask(name, options.limit_s / (SHARE if name in cases else 1))
            print(f"{tool} {number}/{len(networks) + len(cases)} {name}: {_cell(found[tool, name])}", file=sys.stderr)
        worker.stop()
    text = render(found, networks, cases)
    print(text)
    if options.out is not None:
        versions = {"autoprune": version("autoprune"), "other": version("torch-pruning"), "torch": version("torch")}
        head = HEAD.format(
            networks=len(networks),
            cases=len(cases),
            limit=options.limit_s,
            case_limit=options.limit_s / SHARE,
            **versions,
        )
        write_text_atomic(options.out, f"{head}\n{text}")
    return int(any(found["autoprune", name]["outcome"] not in ("right", "refused") for name in [*networks, *cases]))


if __name__ == "__main__":
    raise SystemExit(main())
