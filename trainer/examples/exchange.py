"""PyTorch's side of exchange.rs: torchvision's ResNet-18 with weights from a seed, and 16 photos.

    python exchange.py make PHOTOS FOLDER     # resnet18.pth, resnet18.safetensors, batch.safetensors
    python exchange.py check FOLDER BACK      # loads BACK/model.safetensors strictly, compares its logits
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import models, transforms

torch.set_num_threads(1)


def make(photos, folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = models.resnet18()
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    files = sorted(path for path in photos.iterdir() if path.suffix.lower() in {".jpeg", ".jpg", ".png"})[:16]
    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in files])
    with torch.no_grad():
        # Running statistics of a new model are zeros and ones, which would hide a mistake.
        for _ in range(10):
            model(images)
        logits = model.eval()(images)
    torch.save(model.state_dict(), folder / "resnet18.pth")
    save_file(model.state_dict(), folder / "resnet18.safetensors")
    save_file({"images": images, "logits": logits}, folder / "batch.safetensors")
    print(f"{len(files)} photos, logits up to {logits.abs().max():.3f}")


def check(folder, back):
    model = models.resnet18()
    print(model.load_state_dict(load_file(back / "model.safetensors"), strict=True))
    images = load_file(folder / "batch.safetensors")["images"]
    with torch.no_grad():
        logits = model.eval()(images)
    ours = load_file(back / "logits.safetensors")["logits"]
    print(f"largest difference {(logits - ours).abs().max():.2e}, logits up to {logits.abs().max():.3f}")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](*map(Path, sys.argv[2:]))
