"""The same with BentoML, as its documentation shows it. bentoml serve bento:Lesions, BUNDLE=folder."""

import os

import bentoml
import numpy as np
import torch
from PIL.Image import Image, Resampling

from skin_lesion_mlops.model.networks import load_bundle


@bentoml.service(workers=1)
class Lesions:
    def __init__(self) -> None:
        bundle = load_bundle(os.environ["BUNDLE"])
        self.model, self.size, self.classes = bundle.model, bundle.image_size, bundle.contract["classes"]

    @bentoml.api
    def predict(self, file: Image) -> dict:
        image = file.convert("RGB").resize((self.size, self.size), Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        with torch.no_grad():
            shares = torch.softmax(self.model(pixels), 1)[0]
        return dict(zip(self.classes, shares.tolist()))
