"""Writes curves.json: the losses of models in PyTorch, for trainer/tests/parity_models.rs.

    python trainer/tests/golden/curves.py        # torch 2.15, torchvision 0.30

Nothing but the losses is stored. Initial weights and samples follow from `uniform`, whose twin in Rust gives the same
bits: parameter number p (in the order of `named_parameters()`) of more than one dimension holds uniform(p, i) within
1/sqrt(inputs of an output), as do biases of linear and convolutional layers; norms begin with 1 and 0.

The ResNet learns in float64: on batches this small its norms see variances near 0, and PyTorch's own float32 is 2e-3 from
its float64 after one step, and 3e-1 after five. Its rate is a tenth of the others': at 0.01 what differs in the last bit of
a float64 is three times as much after each step, and all of the loss after 25.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision
from torch import nn

STEPS = 50
WIDTH, CLASSES = 32, 10


def uniform(stream, count):
    """`count` numbers from -1 up to 1, of stream number `stream`: the finalizer of MurmurHash3 over a counter."""
    h = (np.arange(count, dtype=np.uint64) + np.uint64(stream) * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return h.astype(np.float64) / 2**31 - 1


def initialize(model):
    number = 0
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            bound = 1 / np.sqrt(module.weight[0].numel())
        for parameter in module.parameters(recurse=False):
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                numbers = (uniform(number, parameter.numel()) * bound).astype(np.float32)
                parameter.data = torch.from_numpy(numbers).reshape(parameter.shape)
            number += 1


def batch(step, rows):
    """Class (row + step) mod 10; its image is one of ten patterns and as much noise."""
    numbers = 3 * WIDTH * WIDTH
    labels = (np.arange(rows) + step) % CLASSES
    patterns = np.stack([uniform(1000 + label, numbers) for label in range(CLASSES)])
    noise = uniform(2000 + step, rows * numbers).reshape(rows, numbers)
    images = (patterns[labels] * 0.5 + noise).astype(np.float32)
    return torch.from_numpy(images).reshape(rows, 3, WIDTH, WIDTH), torch.from_numpy(labels)


def mlp():
    features = 3 * WIDTH * WIDTH
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(features, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES),
    )  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2048, CLASSES),
    )  # fmt: skip


def losses(model, rows, dtype, lr):
    initialize(model)
    model.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    curve = []
    for step in range(STEPS):
        images, labels = batch(step, rows)
        loss = nn.functional.cross_entropy(model(images.to(dtype)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


if __name__ == "__main__":
    torch.set_num_threads(1)
    resnet = torchvision.models.resnet18(num_classes=CLASSES)
    models = {
        "mlp": (mlp(), 16, torch.float32, 0.01),
        "cnn": (cnn(), 16, torch.float32, 0.01),
        "resnet-18": (resnet, 8, torch.float64, 0.001),
    }
    curves = {name: losses(*model) for name, model in models.items()}
    pathlib.Path(__file__).with_name("curves.json").write_text(json.dumps(curves, indent=1) + "\n")
    for name, curve in curves.items():
        print(name, curve[0], curve[-1])
