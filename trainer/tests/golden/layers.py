"""Writes layers.safetensors: what torch.nn computes, for trainer/tests/parity_layers.rs.

    python trainer/tests/golden/layers.py        # torch 2.15, safetensors

For each case `NAME`: the input `NAME/batch/0`, `NAME/output`, `NAME/grad_output` (random), `NAME/grad_input`, and for
each parameter `NAME/param/KEY`, `NAME/grad/KEY`. A layer with running statistics gets three batches, 0 to 2; all that is
said of it is of the last, with `NAME/running/KEY` after it and `NAME/eval`, the output for it with those.
The metadata hold, for each case, the layer as a model file states it and as PyTorch prints it.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)

ROW, SEQUENCE, IMAGE = (3, 6), (3, 4, 7), (2, 4, 5, 6)
CASES = [
    ("flatten", "", nn.Flatten(), IMAGE),
    ("linear", "out_features = 5", nn.Linear(6, 5), ROW),
    ("linear", "out_features = 5\nbias = false", nn.Linear(7, 5, bias=False), SEQUENCE),
    ("relu", "", nn.ReLU(), ROW),
    ("leaky-relu", "", nn.LeakyReLU(), ROW),
    ("leaky-relu", "negative_slope = 0.2", nn.LeakyReLU(0.2), IMAGE),
    ("gelu", "", nn.GELU(), ROW),
    ("gelu", 'approximate = "tanh"', nn.GELU("tanh"), ROW),
    ("silu", "", nn.SiLU(), ROW),
    ("sigmoid", "", nn.Sigmoid(), ROW),
    ("tanh", "", nn.Tanh(), ROW),
    ("identity", "", nn.Identity(), SEQUENCE),
    ("softmax", "", nn.Softmax(1), ROW),
    ("softmax", "dim = -1", nn.Softmax(-1), IMAGE),
    ("log-softmax", "", nn.LogSoftmax(1), IMAGE),
    ("log-softmax", "dim = 2", nn.LogSoftmax(2), SEQUENCE),
    ("dropout", "p = 0", nn.Dropout(0.0), ROW),
    ("conv1d", "out_channels = 6\nkernel_size = 3", nn.Conv1d(4, 6, 3), SEQUENCE),
    (
        "conv1d",
        "out_channels = 6\nkernel_size = 3\nstride = 2\npadding = 2\ndilation = 2\ngroups = 2\nbias = false",
        nn.Conv1d(4, 6, 3, 2, 2, 2, 2, bias=False),
        SEQUENCE,
    ),
    ("conv2d", "out_channels = 6\nkernel_size = 3", nn.Conv2d(4, 6, 3), IMAGE),
    (
        "conv2d",
        "out_channels = 6\nkernel_size = [3, 2]\nstride = [2, 1]\npadding = [1, 2]\nbias = false",
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), bias=False),
        IMAGE,
    ),
    (
        "conv2d",
        "out_channels = 8\nkernel_size = 3\npadding = 2\ndilation = 2\ngroups = 4",
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        IMAGE,
    ),
    ("conv2d", "out_channels = 3\nkernel_size = 1\nstride = 2", nn.Conv2d(4, 3, 1, 2), IMAGE),
    ("max-pool2d", "kernel_size = 2", nn.MaxPool2d(2), IMAGE),
    ("max-pool2d", "kernel_size = 3\nstride = 2\npadding = 1", nn.MaxPool2d(3, 2, 1), IMAGE),
    ("max-pool2d", "kernel_size = [2, 3]\nstride = 2\ndilation = 2", nn.MaxPool2d((2, 3), 2, dilation=2), (1, 4, 7, 8)),
    ("max-pool2d", "kernel_size = 2\nceil_mode = true", nn.MaxPool2d(2, ceil_mode=True), IMAGE),
    ("avg-pool2d", "kernel_size = 2", nn.AvgPool2d(2), IMAGE),
    ("avg-pool2d", "kernel_size = [3, 2]\nstride = 2\npadding = 1", nn.AvgPool2d((3, 2), 2, 1), IMAGE),
    (
        "avg-pool2d",
        "kernel_size = 3\nstride = 2\npadding = 1\nceil_mode = true\ncount_include_pad = false",
        nn.AvgPool2d(3, 2, 1, True, False),
        IMAGE,
    ),
    ("avg-pool2d", "kernel_size = 3\nstride = 2\npadding = 1\nceil_mode = true", nn.AvgPool2d(3, 2, 1, True), IMAGE),
    ("adaptive-avg-pool2d", "output_size = 1", nn.AdaptiveAvgPool2d((1, 1)), IMAGE),
    ("adaptive-avg-pool2d", "output_size = [3, 4]", nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    ("adaptive-avg-pool2d", "output_size = [9, 2]", nn.AdaptiveAvgPool2d((9, 2)), IMAGE),
    ("batch-norm", "", nn.BatchNorm1d(6), (5, 6)),
    ("batch-norm", "", nn.BatchNorm1d(4), SEQUENCE),
    ("batch-norm", "", nn.BatchNorm2d(4), IMAGE),
    ("batch-norm", "eps = 0.001\nmomentum = 0.3\naffine = false", nn.BatchNorm2d(4, 1e-3, 0.3, False), IMAGE),
    ("batch-norm", "track_running_stats = false", nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    ("layer-norm", "", nn.LayerNorm(6), ROW),
    ("layer-norm", "normalized_shape = [4, 7]\neps = 0.001", nn.LayerNorm([4, 7], 1e-3), SEQUENCE),
    ("layer-norm", "normalized_shape = [4, 5, 6]", nn.LayerNorm([4, 5, 6]), IMAGE),
    ("layer-norm", "elementwise_affine = false", nn.LayerNorm(6, elementwise_affine=False), IMAGE),
    ("layer-norm", "bias = false", nn.LayerNorm(6, bias=False), IMAGE),
    ("group-norm", "num_groups = 2", nn.GroupNorm(2, 6), ROW),
    ("group-norm", "num_groups = 2", nn.GroupNorm(2, 4), IMAGE),
    ("group-norm", "num_groups = 4\nbias = false", nn.GroupNorm(4, 4, bias=False), SEQUENCE),
    ("group-norm", "num_groups = 1\neps = 0.001\naffine = false", nn.GroupNorm(1, 4, 1e-3, False), SEQUENCE),
    ("embedding", "num_embeddings = 9\nembedding_dim = 5", nn.Embedding(9, 5), None),
    ("reshape", "shape = [2, 3]", nn.Unflatten(1, (2, 3)), ROW),
    ("reshape", "shape = [1, 3, 2]", nn.Unflatten(1, (1, 3, 2)), ROW),
]

tensors, metadata = {}, {}
for number, (kind, keys, module, shape) in enumerate(CASES):
    name = f"{number:02} {kind}"
    metadata[f"{name}/toml"] = f'[[layer]]\nkind = "{kind}"\n{keys}\n'
    metadata[f"{name}/torch"] = str(module)
    # Ones and zeros would hide a weight that is not used.
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -1, 1)
    is_running = getattr(module, "running_mean", None) is not None
    for batch in range(3 if is_running else 1):
        x = torch.randint(0, 9, (3, 4)) if shape is None else torch.randn(shape) * 2 + 0.5
        if is_running:
            tensors[f"{name}/batch/{batch}"] = x
        leaf = x.clone().requires_grad_() if shape is not None else x
        module.zero_grad()
        output = module(leaf)
    grad_output = torch.randn_like(output)
    if output.requires_grad:
        output.backward(grad_output)
    if not is_running:
        tensors[f"{name}/batch/0"] = x.to(torch.float32)
    tensors |= {f"{name}/output": output, f"{name}/grad_output": grad_output}
    if shape is not None:
        tensors[f"{name}/grad_input"] = leaf.grad
    for key, parameter in module.named_parameters():
        tensors |= {f"{name}/param/{key}": parameter, f"{name}/grad/{key}": parameter.grad}
    if is_running:
        for key in ("running_mean", "running_var"):
            tensors[f"{name}/running/{key}"] = getattr(module, key)
        tensors[f"{name}/eval"] = module.eval()(x)

path = pathlib.Path(__file__).with_name("layers.safetensors")
save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path, metadata)
print(f"{path}: {len(CASES)} cases, {path.stat().st_size} bytes")
