"""Fine-tune a pruned network with Lightning: it goes into a LightningModule like any other (pip install lightning)."""

from __future__ import annotations

import logging
import warnings

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import autoprune
from autoprune.data import load_data
from autoprune.models import load_model


class Tuning(lightning.LightningModule):
    """A pruned network, learning from labels.

    Args:
        network: The small network.
        steps: How many steps it will be trained for.
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        super().__init__()
        self.network = network
        self.steps = steps

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        return F.cross_entropy(self.network(images), labels, label_smoothing=0.1)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the accuracy of one batch."""
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> dict[str, object]:
        """Return SGD whose rate falls along a cosine."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    """Prune hard, then let Lightning train."""
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # its advice on workers
    lightning.seed_everything(0, verbose=False)
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    found = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        budget=0.2,
        agent="uniform",
    )
    loader = DataLoader(images.train, batch_size=50, shuffle=True, drop_last=True)
    trainer = lightning.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    tuning = Tuning(found.model.train(), steps=8 * len(loader))  # Lightning trains modules in the mode they come in
    tests = DataLoader(images.report, batch_size=len(images.report))
    before = trainer.test(tuning, tests, verbose=False)[0]["accuracy"]
    trainer.fit(tuning, loader)
    after = trainer.test(tuning, tests, verbose=False)[0]["accuracy"]
    print(f"report accuracy: {100 * before:.2f} pruned, {100 * after:.2f} fine-tuned")


if __name__ == "__main__":
    main()
