"""Writes exchange/: files of weights as PyTorch saves them, and the logits they give.

    python exchange.py        # torch, torchvision and safetensors from PyPI, CPU

Each model is built here as its text in ../exchange.rs says, with weights from a fixed seed. `logits.json` holds what
PyTorch computes of the images `ramp(count)`: pixel i of all is ((i * 7) % 32 - 16) / 16, exact in any float.
"""

import json
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

OUT = Path(__file__).parent / "exchange"


def ramp(*shape):
    count = torch.Size(shape).numel()
    return (((torch.arange(count) * 7) % 32 - 16) / 16).reshape(shape)


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


class NarrowResNet(ResNet):
    """torchvision's ResNet-18 with 2, 4, 6 and 8 channels in place of 64, 128, 256 and 512."""

    def __init__(self):
        nn.Module.__init__(self)
        self._norm_layer, self.groups, self.base_width = nn.BatchNorm2d, 1, 64
        self.inplanes, self.dilation = 2, 1
        self.conv1 = nn.Conv2d(3, 2, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for idx, planes in enumerate([2, 4, 6, 8], start=1):
            setattr(self, f"layer{idx}", self._make_layer(BasicBlock, planes, 2, stride=1 if idx == 1 else 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 3)


def trained(model, images):
    """The model after some batches, so that running statistics are not those of a new one."""
    model.train()
    for shift in range(3):
        model(images + shift / 4)
    return model.eval()


def logits(model, images):
    with torch.no_grad():
        return model(images).tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    small, large = ramp(4, 3, 2, 2), ramp(2, 3, 33, 40)
    results = {}

    torch.manual_seed(0)
    model = mlp().eval()
    results["mlp"] = logits(model, small)
    state = model.state_dict()
    torch.save(state, OUT / "mlp.pth")
    # Names its parts by their addresses, which differ from run to run.
    torch.save(state, OUT / "mlp-legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, OUT / "mlp-whole.pth")
    wrapped = {f"module.{name}": tensor.clone() for name, tensor in state.items()}
    optimizer = torch.optim.Adam(model.parameters())
    model(small).sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "state_dict": wrapped, "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, OUT / "mlp-checkpoint.pth")
    torch.manual_seed(0)
    model = mlp().eval()
    state = model.state_dict()
    save_file(state, OUT / "mlp.safetensors", metadata={"format": "pt"})
    kinds = dict(zip(state, [torch.float16, torch.float64, torch.bfloat16, torch.float32]))
    mixed = {name: tensor.to(kinds[name]) for name, tensor in state.items()}
    save_file(mixed, OUT / "mlp-mixed.safetensors")
    model.load_state_dict(mixed)
    results["mlp-mixed"] = logits(model, small)

    torch.manual_seed(1)
    model = trained(cnn(), ramp(4, 3, 4, 4))
    results["cnn"] = logits(model, ramp(4, 3, 4, 4))
    torch.save(model.state_dict(), OUT / "cnn.pth")

    torch.manual_seed(2)
    model = trained(NarrowResNet(), large)
    results["resnet"] = logits(model, large)
    save_file(model.state_dict(), OUT / "resnet.safetensors")

    # A view of 8 GiB on four bytes.
    torch.save({"weight": torch.zeros(1).expand(1 << 31)}, OUT / "expanded.pth")

    # A good file, but compressed.
    with zipfile.ZipFile(OUT / "mlp.pth") as good, zipfile.ZipFile(OUT / "compressed.pth", "w") as out:
        for name in good.namelist():
            out.writestr(zipfile.ZipInfo(name), good.read(name), zipfile.ZIP_DEFLATED)

    (OUT / "logits.json").write_text(json.dumps(results, indent=1) + "\n")
