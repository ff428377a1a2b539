"""The same with LitServe, as its documentation shows it. python lit.py PORT, BUNDLE=folder."""

import io
import os
import sys

import litserve
import numpy as np
import torch
from fastapi import Request
from PIL import Image

from skin_lesion_mlops.model.networks import load_bundle


class Lesions(litserve.LitAPI):
    def setup(self, device):
        bundle = load_bundle(os.environ["BUNDLE"])
        self.model, self.size, self.classes = bundle.model, bundle.image_size, bundle.contract["classes"]

    def decode_request(self, request: Request):
        data = request["file"].file.read()
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]

    def predict(self, pixels):
        with torch.no_grad():
            return torch.softmax(self.model(pixels), 1)[0]

    def encode_response(self, shares):
        return dict(zip(self.classes, shares.tolist()))


if __name__ == "__main__":
    server = litserve.LitServer(Lesions(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False)
