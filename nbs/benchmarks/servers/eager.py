"""The server that most people write: FastAPI, an uploaded file, torch in eager mode. uvicorn eager:app."""

import io
import os

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image

from skin_lesion_mlops.model.networks import load_bundle

bundle = load_bundle(os.environ["BUNDLE"])
model, size, classes = bundle.model, bundle.image_size, bundle.contract["classes"]
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile):
    image = Image.open(io.BytesIO(await file.read())).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        shares = torch.softmax(model(pixels), 1)[0]
    return dict(zip(classes, shares.tolist()))
