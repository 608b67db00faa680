"""Fine-tune a pruned network with a training loop of your own: it is an ordinary module.

The same without a line of code:
    autoprune search --budget 0.4 --agent uniform --finetune 10
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune
from autoprune.data import load_data
from autoprune.models import load_model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images (N, C, H, W) that a network gets right."""
    return (model.eval()(images).argmax(1) == labels).double().mean().item()


def main() -> None:
    """Prune hard, then train as one trains any network."""
    torch.manual_seed(0)
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
    model, test = found.model, images.report.tensors
    before = accuracy(model, *test)

    x, y = images.train.tensors
    epochs, batch = 8, 50
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(x) // batch))
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(x)).view(-1, batch):
            with torch.no_grad():
                taught = dense.model(x[chosen])
            logits = model(x[chosen])
            distilled = F.kl_div(
                F.log_softmax(logits / 4, 1), F.log_softmax(taught / 4, 1), reduction="batchmean", log_target=True
            )
            loss = 0.1 * F.cross_entropy(logits, y[chosen]) + 0.9 * 4**2 * distilled
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    print(f"report accuracy: {100 * before:.2f} pruned, {100 * accuracy(model, *test):.2f} fine-tuned")


if __name__ == "__main__":
    main()
