"""Writes resnet_18.txt: every tensor of torchvision's ResNet-18 with its shape, for trainer/tests/models.rs.

    python trainer/tests/golden/resnet_18.py        # torchvision 0.30
"""

import pathlib

import torchvision

state = torchvision.models.resnet18().state_dict()
lines = [f"{name} {list(value.shape)}" for name, value in state.items() if not name.endswith("num_batches_tracked")]
pathlib.Path(__file__).with_name("resnet_18.txt").write_text("\n".join(lines) + "\n")
