"Grad-CAM: against its formula, on planted evidence, and against forgetting."

import numpy as np
import pytest
import torch
from torch import nn

from skin_lesion_mlops.evaluation.predictions import create_predictions, simulate
from skin_lesion_mlops.model.bundle import ARCHITECTURES
from skin_lesion_mlops.model.explain import dependence, gallery, grad_cam, notable, overlay, trustworthy
from skin_lesion_mlops.model.networks import create_model


def spot(n: int, size: int = 32, seed: int = 0) -> tuple:
    "Noise, every second image with a bright square; class 1 is the square."
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 110, (n, size, size, 3), dtype=np.uint8)
    masks = np.zeros((n, size, size), bool)
    for i in range(1, n, 2):
        y, x = rng.integers(0, size - 8, 2)
        masks[i, y : y + 8, x : x + 8] = True
    images[masks] = 220
    return images, np.arange(n) % 2, masks


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    images, labels, _ = spot(96)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).float(), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval(), features


def test_the_map_finds_the_planted_evidence(trained):
    model, layer = trained
    images, labels, masks = spot(60, seed=1)
    with torch.no_grad():
        answer = model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).argmax(1).numpy()
    assert (answer == labels).mean() > 0.95
    with_spot = np.flatnonzero(labels)
    cams = grad_cam(model, images[with_spot], [1] * len(with_spot), layer)
    grown = nn.functional.max_pool2d(torch.from_numpy(masks[with_spot]).float()[:, None], 5, 1, 2)[:, 0].numpy() > 0
    hits = np.mean([m.ravel()[c.argmax()] for m, c in zip(grown, cams)])
    assert hits > 0.9 and grown.mean() < 0.2


def test_the_map_depends_on_the_weights(trained):
    model, layer = trained
    images = spot(40, seed=2)[0][1::2]
    assert dependence(model, images, [1] * len(images), layer="0") < 0.6
    still = grad_cam(model, images, [1] * len(images), layer)
    assert (still == grad_cam(model, images, [1] * len(images), layer)).all()  # and on nothing else


def test_it_equals_the_class_weights_where_the_head_is_linear(trained):
    "After global average pooling and one linear layer, Grad-CAM is CAM (Zhou et al. 2016): a formula to check against."
    model, layer = trained
    images = spot(6, seed=3)[0]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        cam = torch.einsum("nchw,c->nhw", layer(x), model[3].weight[1]).relu()
        cam = nn.functional.interpolate(cam[:, None], size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        expected = (cam / cam.amax((1, 2), keepdim=True).clamp_min(1e-12)).numpy()
    assert np.allclose(grad_cam(model, images, [1] * 6, layer), expected, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_explained_and_left_alone(arch):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    model = create_model(arch).train()
    model.requires_grad_(False)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        cams = grad_cam(model, images, [0, 4, 5], batch_size=2)
    assert cams.shape == (3, 64, 64) and cams.dtype == np.float32 and 0 <= cams.min() <= cams.max() <= 1
    assert model.training and not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_batches_and_default_classes_change_nothing():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    model = create_model("tiny").eval()
    with torch.no_grad():
        predicted = model(torch.from_numpy(images).permute(0, 3, 1, 2)).argmax(1).tolist()
    whole = grad_cam(model, images, predicted)
    assert np.allclose(whole, grad_cam(model, images, batch_size=2), atol=1e-5)
    assert grad_cam(model, images[:0]).shape == (0, 64, 64)


def test_the_hook_comes_off_when_the_pass_fails():
    model = create_model("tiny")
    with pytest.raises((IndexError, RuntimeError)):
        grad_cam(model, np.zeros((1, 64, 64, 3), np.uint8), [99])
    assert not any(m._forward_hooks for m in model.modules())


def test_overlay_leaves_cold_places_alone():
    image = np.full((8, 8, 3), 120, np.uint8)
    cam = np.zeros((8, 8), np.float32)
    assert (overlay(image, cam) == image).all()
    cam[2, 2] = 1
    changed = (overlay(image, cam) != image).any(-1)
    assert changed.sum() == 1 and changed[2, 2]
    assert len(gallery(image[None], cam[None], ["nv"]).axes) == 2


def test_maps_of_group_normalised_networks_are_flagged():
    assert not trustworthy(create_model("tiny")) or not any(
        isinstance(m, nn.GroupNorm) for m in create_model("tiny").modules()
    )
    assert trustworthy(create_model("resnet18"))
    assert not trustworthy(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)))


def test_notable_cases_are_distinct_and_what_they_say():
    p = simulate(300, skill=1.5)
    cases = notable(p, 4)
    assert (p.labels == p.predicted)[cases["right"]].all() and len(set(p.labels[cases["right"]])) == 4
    wrong = cases["wrong"]
    confidence = p.probabilities.max(1)
    assert (p.labels != p.predicted)[wrong].all() and len(set(p.lesions[wrong])) == len(wrong)
    assert confidence[wrong[0]] == confidence[p.labels != p.predicted].max()
    assert (p.malignant & ~p.flagged)[cases["missed"]].all()
    perfect = create_predictions([4, 5], np.eye(7)[[4, 5]])
    assert not len(notable(perfect)["wrong"]) and not len(notable(perfect)["missed"])
