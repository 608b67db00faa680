"""The training loop: SGD with a teacher, a moving average of the weights, and the best epoch by the search part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data import RunBatch
from autoprune.errors import AutopruneError
from autoprune.evaluation import Evaluator, Task, answered
from autoprune.finetuning._average import Average, fresh_statistics, frozen, train_mode
from autoprune.finetuning._batches import TrainingBatches
from autoprune.finetuning._checkpoint import Checkpoint, restore, snapshot
from autoprune.finetuning._engine import Engine
from autoprune.finetuning._features import Boundary, Recorder
from autoprune.finetuning._images import TrainingImages
from autoprune.finetuning._losses import matching
from autoprune.finetuning._objective import LabelLoss, Objective, output_loss
from autoprune.finetuning._precision import autocast, faster
from autoprune.finetuning._progress import FinetuneProgress
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._schedule import learning_rate
from autoprune.model_guard import SafeGradients
from autoprune.surgery import copy_model, fast_layout, lay_out

_STATISTICS = 5000  # training images that BatchNorm of the averaged weights is measured on
_LOOK = 50  # steps between looks at whether the loss is finite
_VARIANCE = 512  # training images that the variance of the dense network's outputs is measured on


class Trainer:
    """Trains one network, an epoch at a time.

    Args:
        model: The network; trained in place.
        teacher: The dense network, for recipes that need it.
        images: What is trained on.
        evaluator: Measures a network on the search part.
        recipe: How.
        engine: Where.
        measure: How outputs are compared, and how a batch is run.
        labels: Whether labels are learned from; else the teacher's outputs alone.
        boundaries: Where features are matched.
        precision: "fp32" or "bf16"; None measures which is faster.

    Attributes:
        precision: "fp32" or "bf16".
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | None,
        images: TrainingImages | TrainingBatches,
        evaluator: Evaluator,
        recipe: Recipe,
        *,
        engine: Engine,
        measure: Task,
        labels: bool = True,
        boundaries: tuple[Boundary, ...] = (),
        precision: str | None = None,
    ) -> None:
        self._recipe, self._images, self._evaluator, self._engine = recipe, images, evaluator, engine
        self._device, self._run, self._labels = engine.device, measure.run, labels
        self._module, self._teacher = model, None if teacher is None else teacher.eval().requires_grad_(False)
        with _seeded(recipe.seed, 0, self._device):
            sample = next(images.sample(1)).to(self._device)
        networks = [model] if teacher is None else [model, teacher]
        self._fast = lay_out(networks, None if isinstance(sample, RunBatch) else sample, self._device)
        self._frozen = frozen(self._module)
        self._recorders: tuple[Recorder, ...] = ()
        if recipe.feature_weight > 0 and teacher is not None and boundaries:
            self._recorders = (Recorder(model, boundaries, select=False), Recorder(teacher, boundaries, select=True))
        self._objective: Objective = LabelLoss(recipe)
        if not labels:
            assert self._teacher is not None
            given = map(self._given, images.sample(_VARIANCE))
            with _seeded(recipe.seed, 0, self._device):
                self._objective = output_loss(self._teacher, given, measure, temperature=recipe.temperature)
        self.precision = precision if precision is not None else "fp32"
        self._optimizer = self._sgd(self._module)
        self._average = Average(self._module, recipe.ema) if recipe.ema > 0 else None
        self._net, self._stepper = engine.setup(self._module, self._optimizer)
        if precision is None:  # the processes must agree, whatever each of them measures
            votes = engine.mean(torch.tensor(float(self._measure() == "bf16"), device=self._device))
            self.precision = "bf16" if float(votes) >= 0.5 else "fp32"
        self._epoch = 0
        self._history: list[dict[str, Any]] = []
        self._best: Mapping[str, Tensor] = {}
        self._wall = 0.0

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per epoch done."""
        return self._history

    @property
    def best(self) -> Mapping[str, Any]:
        """The record of the best epoch."""
        return max(self._history, key=self._merit)

    @property
    def best_state(self) -> Mapping[str, Tensor]:
        """The state of the best epoch's network."""
        return self._best

    @property
    def wall_s(self) -> float:
        """Seconds of training, over all sessions."""
        return self._wall

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or no better one has come for as many as the recipe's patience."""
        waited = self._epoch - (self.best["epoch"] if self._history else 0)
        return self._epoch >= self._recipe.epochs or 0 < self._recipe.patience <= waited

    def close(self) -> None:
        """Leave the networks without anything of the training's."""
        for recorder in self._recorders:
            recorder.close()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        restore(self._module, checkpoint.model)
        for name, parameter in self._module.named_parameters():
            if name in checkpoint.momentum:
                buffer = torch.empty_like(parameter).copy_(checkpoint.momentum[name])
                self._optimizer.state[parameter]["momentum_buffer"] = buffer
        if self._average is not None:
            self._average.restore(checkpoint.average, checkpoint.updates)
        self._epoch, self._wall = checkpoint.epoch, checkpoint.wall_s
        self._history = [dict(record) for record in checkpoint.history]
        self._best = checkpoint.best

    def checkpoint(self) -> Checkpoint:
        """Return where the training stands."""
        state = self._optimizer.state
        momentum = {
            name: state[parameter]["momentum_buffer"]
            for name, parameter in self._module.named_parameters()
            if state.get(parameter, {}).get("momentum_buffer") is not None
        }
        average = self._average
        return Checkpoint(
            epoch=self._epoch,
            model=snapshot(self._module),
            momentum=momentum,
            average={} if average is None else average.state(),
            best=self._best,
            updates=0 if average is None else average.updates,
            history=self._history,
            wall_s=self._wall,
        )

    def epoch(self, progress: FinetuneProgress) -> dict[str, Any]:
        """Train for one epoch, measure on the search part, and return the epoch's record.

        Raises:
            AutopruneError: if the loss is no longer finite.
        """
        started = time.monotonic()
        number = self._epoch + 1
        loss, rate = self._train(number, progress)
        network = self._evaluated()
        accuracy, search_loss = self._evaluator(network)
        seconds = time.monotonic() - started
        record: dict[str, Any] = {
            "epoch": number,
            "lr": rate,
            "train_loss": loss,
            "search_accuracy": accuracy,
            "search_loss": search_loss,
            "seconds": round(seconds, 3),
            "best": False,
        }
        record["best"] = all(self._merit(record) > self._merit(other) for other in self._history)
        if record["best"]:
            self._best = snapshot(network)
        self._epoch, self._wall = number, self._wall + seconds
        self._history.append(record)
        return record

    def _train(self, number: int, progress: FinetuneProgress) -> tuple[float, float]:
        """Return the mean training loss of the epoch, and its last learning rate."""
        recipe, images, engine = self._recipe, self._images, self._engine
        total, rate, done = torch.zeros((), device=self._device), 0.0, 0
        self._net.train()
        train_mode(self._module, self._frozen, leaves=not self._labels)
        with _seeded(recipe.seed, number, self._device):
            for step, (x, y) in enumerate(images.epoch(number, rank=engine.rank, world=engine.world)):
                rate = learning_rate(
                    (number - 1) * images.steps + step,
                    recipe.epochs * images.steps,
                    highest=recipe.rate,
                    warmup=recipe.warmup,
                )
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                total += self._step(x, y, self._net, self._stepper, self.precision, engine.backward)
                if self._average is not None:
                    self._average.update()
                done += images.batch_size
                if step % _LOOK == 0 and not math.isfinite(float(total)):
                    break
                progress.step(done)
        mean = float(engine.mean(total / images.steps))
        if not math.isfinite(mean):
            raise AutopruneError(
                f"The training loss is no longer finite in epoch {number}, at a learning rate of {rate:.3g}; give a lower --lr."
            )
        return mean, rate

    def _step(
        self,
        images: Any,
        labels: Tensor | None,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: str,
        backward: Callable[[Tensor], None],
    ) -> Tensor:
        """Make one step and return its loss."""
        recipe, loss = self._recipe, torch.zeros((), device=self._device)
        optimizer.zero_grad()
        for x, y, share in self._parts(images, labels):
            with autocast(self._device, precision):
                taught = None
                if self._teacher is not None:
                    with torch.no_grad():
                        taught = answered(self._run, self._teacher, x)
                with SafeGradients():
                    found = answered(self._run, net, x)
            part = self._objective(x, y, found, taught)
            if self._recorders:
                mine, theirs = (recorder.take() for recorder in self._recorders)
                part = part + recipe.feature_weight * matching(mine, theirs)
            part = part * share
            backward(part)
            loss += part.detach()
        if recipe.clip > 0:
            nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip)
        optimizer.step()
        return loss

    def _parts(self, images: Any, labels: Tensor | None) -> Iterator[tuple[Any, Tensor | None, float]]:
        """Cut a batch into what is gone through at a time: inputs, labels, and the share of the batch."""
        if isinstance(images, RunBatch):
            yield self._given(images), None if labels is None else labels.to(self._device), 1.0
            return
        size = -(-len(images) // self._recipe.accumulate)
        for start in range(0, len(images), size):
            some = slice(start, start + size)
            x, y = self._given(images[some]), labels
            yield x, None if y is None else y[some].to(self._device), len(x) / len(images)

    def _evaluated(self) -> nn.Module:
        """Return the network that counts: the averaged one, with statistics of its own, or the one in training."""
        if self._average is None:
            return self._module.eval()
        shadow = copy_model(self._module)
        self._average.copy_to(shadow)
        with _seeded(self._recipe.seed, 0, self._device):
            given = map(self._given, self._images.sample(_STATISTICS))
            fresh_statistics(shadow, given, lambda module, inputs: answered(self._run, module, inputs))
        return shadow

    def _given(self, images: Any) -> Any:
        """Return inputs as the networks are given them."""
        images = images.to(self._device)
        return fast_layout(images, self._device) if self._fast else images

    def _measure(self) -> str:
        """Return the faster precision, by steps of a copy of the network."""
        copied = copy_model(self._module)
        train_mode(copied, (), leaves=not self._labels)
        optimizer = self._sgd(copied)
        images, labels = next(iter(self._images.epoch(1)))
        with _seeded(self._recipe.seed, 0, self._device):
            found = faster(
                lambda precision: self._step(
                    images, labels, copied, optimizer, precision, Engine(self._device).backward
                ),
                self._device,
            )
        return found

    def _merit(self, record: Mapping[str, Any]) -> tuple[float, float]:
        """Return what makes an epoch better: the metric on the search part in its direction, then less loss there."""
        loss = record["search_loss"]
        merit = self._evaluator.metric.sign * record["search_accuracy"]
        return merit, -loss if loss is not None and math.isfinite(loss) else -math.inf

    def _sgd(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return SGD over a module's parameters; only weights with two or more dimensions decay."""
        recipe = self._recipe
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(
            [group for group in groups if group["params"]], lr=recipe.rate, momentum=recipe.momentum, nesterov=nesterov
        )


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Let torch's own random numbers (dropout) follow from seed and epoch inside, and be what they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((seed * 1_000_003 + epoch) % 2**64)
        yield
