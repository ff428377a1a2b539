"""Training loops for `training.ipynb`: a process that trains an epoch with one of them whenever it is told to.

    python loops.py FOLDER < turns

FOLDER holds the split folders `train` and `validation`, and the training pictures as files under `files/CLASS/`. Each
line on stdin is a turn in JSON: loop (a key of `LOOPS`), arch, hyperparameters. Each prints a line of JSON: images,
seconds on the clock, seconds of processor. `REFERENCE` in the environment is torchvision's folder of that name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from PIL import Image
from torch import nn

from skin_lesion_mlops.data.shards import Shards
from skin_lesion_mlops.model.classifier import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Classifier,
    _torchvision_models,
)
from skin_lesion_mlops.model.hyperparameters import Hyperparameters
from skin_lesion_mlops.model.train import (
    create_state,
    create_trainer,
    distributed,
    open_split,
    train_epoch,
)
from skin_lesion_mlops.model.world import autocast

Epoch = Callable[[], None]
RATE = 1e-4


def started(folder: Path, arch: str, **more: Any) -> Any:
    "A trainer with its state."
    p = Hyperparameters(arch=arch, weights="none", learning_rate=RATE, **{"epochs": 1000, **more})
    trainer = create_trainer(open_split(folder / "train"), open_split(folder / "validation"), p)
    return trainer, create_state(trainer)


def ours(folder: Path, arch: str, **more: Any) -> Epoch:
    "The loop of `fit`, without validation and checkpoints."
    trainer, state = started(folder, arch, **more)
    learner = distributed(trainer)

    def epoch() -> None:
        train_epoch(trainer, state, learner, None)
        state.epoch, state.batch = state.epoch + 1, 0

    return epoch


def limit(folder: Path, arch: str, **more: Any) -> Epoch:
    "The same network, batches, loss and optimiser; the batches are floats in memory, and nothing is done to them."
    trainer, state = started(folder, arch, **more)
    x = trainer.train(np.arange(len(trainer.labels))).float()
    size = trainer.parameters.batch_size
    inputs = [part.contiguous(memory_format=torch.channels_last) for part in x.split(size)]
    batches = list(zip(inputs, trainer.labels.split(size)))
    criterion, model, optimizer = (
        nn.CrossEntropyLoss(trainer.weights),
        trainer.learner.train(),
        state.optimizer,
    )

    def epoch() -> None:
        for pixels, labels in batches:
            optimizer.zero_grad()
            with autocast(trainer.precision, trainer.world.device):
                loss = criterion(model(pixels), labels)
            loss.backward()
            optimizer.step()

    return epoch


def bare(arch: str, classes: int) -> nn.Module:
    "A network for pictures that are normalised already."
    whole = Classifier(arch, classes, IMAGENET_MEAN, IMAGENET_STD)
    return nn.Sequential(whole.net, whole.head)


class Decoded(torch.utils.data.Dataset):
    "The decoded pictures of a split, one by one, as Pillow images."

    def __init__(self, shards: Shards, transform: Callable[[Image.Image], torch.Tensor]):
        self.shards, self.transform = shards, transform

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.shards[i])), int(self.shards.labels[i])


def _reference(folder: Path, arch: str, files: bool, **more: Any) -> Epoch:
    "`train_one_epoch` of torchvision's references, as published."
    _torchvision_models()
    sys.path.insert(0, os.environ["REFERENCE"])
    import presets
    import torchvision.datasets
    import train

    shards = open_split(folder / "train")
    preset = presets.ClassificationPresetTrain(crop_size=shards.contract["image_size"])
    data: Any = Decoded(shards, preset)
    if files:
        data = torchvision.datasets.ImageFolder(str(folder / "files"), preset)
    loader = torch.utils.data.DataLoader(data, batch_size=32, sampler=torch.utils.data.RandomSampler(data))
    model = bare(arch, len(shards.contract["classes"]))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    args = argparse.Namespace(print_freq=10, clip_grad_norm=None, lr_warmup_epochs=0)
    return lambda: train.train_one_epoch(model, nn.CrossEntropyLoss(), optimizer, loader, torch.device("cpu"), 0, args)


def torchvision(folder: Path, arch: str, **more: Any) -> Epoch:
    "torchvision's loop and its preset, on the decoded pictures."
    return _reference(folder, arch, False)


def torchvision_files(folder: Path, arch: str, **more: Any) -> Epoch:
    "torchvision's loop and its preset, on files."
    return _reference(folder, arch, True)


def fastai(folder: Path, arch: str, **more: Any) -> Epoch:
    "fastai's `Learner` with its standard augmentation, on the decoded pictures."
    _torchvision_models()
    from fastai.vision import all as fa

    shards = open_split(folder / "train")
    side, names = shards.contract["image_size"], shards.contract["classes"]
    stats = fa.Normalize.from_stats(IMAGENET_MEAN, IMAGENET_STD)
    block = fa.DataBlock(
        blocks=(fa.ImageBlock, fa.CategoryBlock(vocab=names)),
        get_x=lambda i: shards[i],
        get_y=lambda i: names[shards.labels[i]],
        splitter=fa.IndexSplitter([0]),
        batch_tfms=[*fa.aug_transforms(size=side), stats],
    )
    loaders = block.dataloaders([0, *range(len(shards))], bs=32, num_workers=0, device=torch.device("cpu"))
    loss = fa.CrossEntropyLossFlat()
    learner = fa.Learner(loaders, bare(arch, len(names)), loss_func=loss, opt_func=fa.Adam, lr=RATE)
    learner.create_opt()
    learner.remove_cbs(fa.ProgressCallback)

    def epoch() -> None:
        with learner.no_logging():
            learner.fit(1)

    return epoch


LOOPS = {f.__name__: f for f in (limit, ours, torchvision, torchvision_files, fastai)}


def main(folder: str) -> None:
    "Train an epoch for every line on stdin."
    made: dict[str, Epoch] = {}
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            turn = json.loads(line)
            if line not in made:
                torch.manual_seed(1)
                made[line] = LOOPS[turn.pop("loop")](Path(folder), **turn)
            clock, processor = time.perf_counter(), time.process_time()
            made[line]()
            took = dict(
                clock=time.perf_counter() - clock,
                processor=time.process_time() - processor,
            )
        print(
            json.dumps(dict(images=len(open_split(Path(folder) / "train")), **took)),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
