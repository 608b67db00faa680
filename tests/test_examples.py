from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ._sample import pick

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_every_example_is_tested() -> None:
    known = {
        "quick_start",
        "custom_reward",
        "custom_cost",
        "own_model_and_data",
        "finetune_pytorch",
        "finetune_lightning",
        "unet_denoising",
        "audio_1d",
        "video_3d",
        "two_inputs",
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == known


LONGER = [
    ("unet_denoising", "dB with them."),
    ("audio_1d", "and no label was read."),
    ("two_inputs", "with them."),
    ("video_3d", "no label was read by the search."),
]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quick_start", "auto best *"),
        ("custom_reward", "where 0.800 were allowed"),
        ("custom_cost", "where 0.600 were allowed"),
        ("own_model_and_data", "% of the test images"),
        ("finetune_pytorch", "fine-tuned"),
        ("finetune_lightning", "fine-tuned"),
        *pick(LONGER, 1),
    ],
)
def test_example_runs(name: str, said: str, tmp_path: Path) -> None:
    if name == "finetune_lightning":
        pytest.importorskip("lightning")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
    if name == "quick_start":
        names = sorted(path.name for path in (tmp_path / "runs" / "quick-start").iterdir())
        assert names == ["load.py", "model.safetensors", "policy.json", "report.json"]
