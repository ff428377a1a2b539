"Training with a teacher, and what it leaves: for `distillation.ipynb`."

from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from skin_lesion_mlops.model import train as loop
from skin_lesion_mlops.model.ensemble import mean_posterior
from skin_lesion_mlops.model.folds import fit_members
from skin_lesion_mlops.model.metadata import encode_metadata, metadata_width
from skin_lesion_mlops.model.networks import create_model, predict


@contextmanager
def taught(teacher, temperature, share):  # logits (n, classes) of the training images; share of the loss, 0 to 1
    "While this lasts, training learns from the teacher too: share * T^2 * divergence + (1 - share) * its own loss."
    soft = torch.softmax(torch.from_numpy(teacher).float() / temperature, 1)
    prepare, own, seen = loop.prepare, loop.weighted_loss, {}

    def watched(trainer, state, x, rows, b):
        seen["rows"] = rows
        return prepare(trainer, state, x, rows, b)

    def loss(logits, labels, weights, smoothing=0.0, kept=None):
        total, weight = own(logits, labels, weights, smoothing, kept)
        target = soft[seen["rows"]]
        if kept is not None:  # a mixed picture has mixed targets
            target = kept[:, None] * target + (1 - kept)[:, None] * target.flip(0)
        said = torch.log_softmax(logits.float() / temperature, 1)
        divergence = torch.nn.functional.kl_div(said, target, reduction="sum")
        return (1 - share) * total + share * temperature**2 * divergence, weight

    with mock.patch.object(loop, "prepare", watched), mock.patch.object(loop, "weighted_loss", loss):
        yield


def trained(place, train, validation, p, lessons=None, asked=None):  # lessons: as `taught`; asked: images to answer
    "What a network says of the validation images, and of those asked; trained where that has not been done."
    place = Path(place)
    if not (place / "answers.npz").exists():
        with taught(*lessons) if lessons else nullcontext():
            fitted = fit_members(train, validation, p, place)
        place.mkdir(parents=True, exist_ok=True)
        torch.save(fitted.model.state_dict(), place / "network.pt")
        told = encode_metadata(fitted.told, asked.index) if asked is not None else None
        said = predict(fitted.model, asked, told)[0] if asked is not None else np.zeros((0, 1))
        seconds = fitted.history.seconds.sum()
        np.savez(place / "answers.npz", validation=fitted.logits, asked=said, seconds=seconds, best=fitted.best_epoch)
        for used in [*place.glob("checkpoint-*.pt"), *place.glob("best-*.pt")]:
            used.unlink()
    return np.load(place / "answers.npz")


def together(votes):  # logits (n, classes) of several networks
    "Logits of their mean posterior."
    return mean_posterior(torch.from_numpy(np.stack(votes)).double()).numpy()


def answered(place, arch, images, told):  # told: as `learn_metadata` has it
    "What a trained network says of other images."
    place, a = Path(place), images.contract
    if not (place / "others.npy").exists():
        network = create_model(arch, "none", len(a["classes"]), a["mean"], a["std"], metadata_width(told))
        network.load_state_dict(torch.load(place / "network.pt", weights_only=True))
        network = network.to(memory_format=torch.channels_last)
        np.save(place / "others.npy", predict(network, images, encode_metadata(told, images.index))[0])
    return np.load(place / "others.npy")


def compared(name, base, names, point, drawn):  # point, drawn: (name, seed) -> figures, as they are and resampled
    "A row of a table: differences from the base, seed by seed."
    mine = [s for n, s in point if n == name]
    row = {"": name if base == "alone" else f"{name}, from {base}", "seeds": len(mine)}
    for n in names:
        gains = np.array([point[name, s][n][0] - point[base, s][n][0] for s in mine])
        low, high = np.quantile(np.mean([drawn[name, s][n] - drawn[base, s][n] for s in mine], 0), [0.025, 0.975])
        text = f"{gains.mean():+.3f} ({low:+.3f} to {high:+.3f})"
        row[n] = text if len(set(gains > 0)) == 1 else f"[{text}]"
    return row
