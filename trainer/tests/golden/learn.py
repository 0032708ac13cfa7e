"""Makes `learn.json` beside it: what PyTorch really computes when it learns, for the tests of `trainer/src` to compare with.

    python3 -m venv venv && venv/bin/pip install torch && venv/bin/python learn.py

Deterministic for a given version, which the file names. Numbers are f32 in nine digits, rates f64 in seventeen.
"""

import json
import pathlib

import torch
from torch import nn
from torch.optim import lr_scheduler as schedule

torch.set_num_threads(1)
torch.manual_seed(0)

STEPS = 100
SEEN = [1, 2, 3, 5, 10, 20, 50, 100]


def numbers(tensor):
    return [float(f"{number:.9g}") for number in tensor.detach().flatten().tolist()]


def losses():
    output = torch.randn(5, 4) * 2
    classes = torch.tensor([2, 0, 3, 3, 1])
    targets = torch.randn(5, 4)
    chances = torch.tensor([[0.0, 1.0, 1.0, 0.25]] * 3 + [[1.0, 0.0, 0.5, 1.0]] * 2)
    weight, pos_weight = [0.5, 2.0, 1.0, 3.0], [1.0, 2.0, 0.5, 4.0]
    cases = [
        ("kind = 'cross-entropy'", nn.CrossEntropyLoss(), classes),
        ("label_smoothing = 0.1", nn.CrossEntropyLoss(label_smoothing=0.1), classes),
        (f"weight = {weight}", nn.CrossEntropyLoss(weight=torch.tensor(weight)), classes),
        (
            f"label_smoothing = 0.2\nweight = {weight}",
            nn.CrossEntropyLoss(weight=torch.tensor(weight), label_smoothing=0.2),
            classes,
        ),
        ("kind = 'mse'", nn.MSELoss(), targets),
        ("kind = 'l1'", nn.L1Loss(), targets),
        ("kind = 'smooth-l1'", nn.SmoothL1Loss(), targets),
        ("kind = 'smooth-l1'\nbeta = 0.25", nn.SmoothL1Loss(beta=0.25), targets),
        ("kind = 'smooth-l1'\nbeta = 0", nn.SmoothL1Loss(beta=0.0), targets),
        ("kind = 'bce-with-logits'", nn.BCEWithLogitsLoss(), chances),
        (
            f"kind = 'bce-with-logits'\npos_weight = {pos_weight}",
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor(pos_weight)),
            chances,
        ),
        ("kind = 'bce-with-logits'\npos_weight = 3", nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])), chances),
    ]
    found = []
    for toml, loss, target in cases:
        leaf = output.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        found.append({"toml": toml, "target": target.tolist() if target is classes else numbers(target),
                      "loss": numbers(value)[0], "gradient": numbers(leaf.grad)})
    return {"output": numbers(output), "cases": found}


def optimizers():
    first = [torch.randn(4, 3), torch.randn(3)]
    # Multiples of 1/64 are short to write; some are far larger than others, some 0.
    gradients = [[(torch.randint(-64, 65, tensor.shape) * (4.0 ** (step % 3)) / 64) for tensor in first]
                 for step in range(STEPS)]
    optim = torch.optim
    cases = [
        ("kind = 'sgd'", lambda p: optim.SGD(p)),
        ("kind = 'sgd'\nlr = 0.1\nweight_decay = 0.01", lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01)),
        ("kind = 'sgd'\nlr = 0.1\nmomentum = 0.9", lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
        (
            "kind = 'sgd'\nlr = 0.1\nmomentum = 0.9\ndampening = 0.3\nweight_decay = 0.001",
            lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.001),
        ),
        (
            "kind = 'sgd'\nlr = 0.1\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.001",
            lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.001),
        ),
        ("kind = 'adam'", lambda p: optim.Adam(p)),
        (
            "kind = 'adam'\nlr = 0.01\nbetas = [0.5, 0.99]\neps = 1e-6\nweight_decay = 0.1",
            lambda p: optim.Adam(p, lr=0.01, betas=(0.5, 0.99), eps=1e-6, weight_decay=0.1),
        ),
        ("kind = 'adam'\nbetas = [0.3, 0.4]", lambda p: optim.Adam(p, betas=(0.3, 0.4))),
        ("kind = 'adamw'", lambda p: optim.AdamW(p)),
        (
            "kind = 'adamw'\nlr = 0.01\nbetas = [0.8, 0.95]\nweight_decay = 0.3",
            lambda p: optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.3),
        ),
        ("kind = 'rmsprop'", lambda p: optim.RMSprop(p)),
        (
            "kind = 'rmsprop'\nlr = 0.001\nalpha = 0.9\neps = 1e-6\nweight_decay = 0.1",
            lambda p: optim.RMSprop(p, lr=0.001, alpha=0.9, eps=1e-6, weight_decay=0.1),
        ),
        ("kind = 'rmsprop'\nmomentum = 0.9", lambda p: optim.RMSprop(p, momentum=0.9)),
        ("kind = 'rmsprop'\ncentered = true", lambda p: optim.RMSprop(p, centered=True)),
        (
            "kind = 'rmsprop'\nlr = 0.001\ncentered = true\nmomentum = 0.5\nalpha = 0.4\nweight_decay = 0.01",
            lambda p: optim.RMSprop(p, lr=0.001, centered=True, momentum=0.5, alpha=0.4, weight_decay=0.01),
        ),
    ]
    found = []
    for toml, make in cases:
        parameters = [tensor.clone().requires_grad_() for tensor in first]
        optimizer = make(parameters)
        seen = []
        for step in range(STEPS):
            for parameter, gradient in zip(parameters, gradients[step]):
                parameter.grad = gradient.clone()
            optimizer.step()
            if step + 1 in SEEN:
                seen.append(sum((numbers(parameter) for parameter in parameters), []))
        found.append({"toml": toml, "seen": seen})
    return {
        "first": sum((numbers(tensor) for tensor in first), []),
        "gradients": [sum((numbers(tensor) for tensor in step), []) for step in gradients],
        "seen": SEEN,
        "cases": found,
    }


def clipping():
    first = [torch.randn(4, 3) * 3, torch.randn(3)]
    found = []
    # Where gradients are tiny, the 1e-6 that PyTorch adds to a norm shows.
    for scale, max_norm in [(1, 0.5), (1, 2.0), (1, 1000.0), (1e-6, 1e-6)]:
        parameters = [torch.zeros_like(tensor).requires_grad_() for tensor in first]
        for parameter, gradient in zip(parameters, first):
            parameter.grad = gradient * scale
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        found.append({"scale": scale, "max_norm": max_norm, "norm": numbers(norm)[0],
                      "gradients": sum((numbers(parameter.grad) for parameter in parameters), [])})
    parameters = [torch.zeros_like(tensor).requires_grad_() for tensor in first]
    for parameter, gradient in zip(parameters, first):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_value_(parameters, 0.75)
    return {"first": sum((numbers(tensor) for tensor in first), []), "norms": found,
            "value": sum((numbers(parameter.grad) for parameter in parameters), [])}


def schedules():
    """100 steps as 20 epochs of 5 steps, from a rate of 0.1."""
    epochs, per_epoch = 20, 5
    step, epoch = "unit = 'step'\n", "unit = 'epoch'\n"
    # CosineAnnealingLR computes each rate from the one before: that adds up to 1e-16 or so each step.
    cases = [
        ("kind = 'constant'", "epoch", lambda o: schedule.LambdaLR(o, lambda _: 1.0)),
        ("kind = 'step'\nstep_size = 3\ngamma = 0.5", "epoch", lambda o: schedule.StepLR(o, 3, gamma=0.5)),
        (step + "kind = 'step'\nstep_size = 7", "step", lambda o: schedule.StepLR(o, 7)),
        (
            "kind = 'multi-step'\nmilestones = [2, 3, 11]",
            "epoch",
            lambda o: schedule.MultiStepLR(o, [2, 3, 11]),
        ),
        ("kind = 'exponential'\ngamma = 0.9", "epoch", lambda o: schedule.ExponentialLR(o, 0.9)),
        ("kind = 'cosine'", "epoch", lambda o: schedule.CosineAnnealingLR(o, epochs)),
        (step + "kind = 'cosine'\neta_min = 0.02", "step", lambda o: schedule.CosineAnnealingLR(o, 100, eta_min=0.02)),
        (step + "kind = 'cosine'\nt_max = 30", "step", lambda o: schedule.CosineAnnealingLR(o, 30)),
        (
            step + "kind = 'constant'\nwarmup = 10",
            "step",
            lambda o: schedule.LinearLR(o, start_factor=1 / 3, total_iters=10),
        ),
        (
            step + "kind = 'cosine'\nwarmup = 10\nwarmup_start = 0.01",
            "step",
            lambda o: schedule.SequentialLR(
                o,
                [schedule.LinearLR(o, start_factor=0.01, total_iters=10), schedule.CosineAnnealingLR(o, 90)],
                milestones=[10],
            ),
        ),
        (
            epoch + "kind = 'step'\nstep_size = 4\nwarmup = 3",
            "epoch",
            lambda o: schedule.SequentialLR(
                o, [schedule.LinearLR(o, start_factor=1 / 3, total_iters=3), schedule.StepLR(o, 4)], milestones=[3]
            ),
        ),
        ("kind = 'one-cycle'\nmax_lr = 0.5", "step", lambda o: schedule.OneCycleLR(o, 0.5, total_steps=100)),
        (
            "kind = 'one-cycle'\npct_start = 0.25\ndiv_factor = 10\nfinal_div_factor = 100",
            "step",
            lambda o: schedule.OneCycleLR(
                o, 0.1, total_steps=100, pct_start=0.25, div_factor=10, final_div_factor=100
            ),
        ),
    ]
    found = []
    for toml, unit, make in cases:
        optimizer = torch.optim.SGD([torch.zeros(1).requires_grad_()], lr=0.1)
        scheduler = make(optimizer)
        rates = []
        for now in range(epochs * per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if unit == "step" or (now + 1) % per_epoch == 0:
                scheduler.step()
        found.append({"toml": toml, "rates": rates if unit == "step" else rates[::per_epoch], "unit": unit})
    return found


def metrics():
    # Class 4 is in no label and in no prediction, class 3 only in predictions.
    logits = torch.randn(40, 5)
    logits[:, 4] -= 20
    labels = torch.randint(0, 3, (40,))
    predicted = logits.argmax(1)
    confusion = torch.bincount(labels * 5 + predicted, minlength=25).reshape(5, 5)
    hits = confusion.diag().double()
    divide = lambda a, b: [float(x / y) if y else 0.0 for x, y in zip(a, b)]
    precision, recall = divide(hits, confusion.sum(0)), divide(hits, confusion.sum(1))
    f1 = divide(2 * hits, confusion.sum(0) + confusion.sum(1))
    outputs, targets = torch.randn(7, 3), torch.randn(7, 3)
    return {
        "logits": numbers(logits),
        "labels": labels.tolist(),
        "confusion": confusion.tolist(),
        "accuracy": float((predicted == labels).double().mean()),
        "top": [float((logits.topk(k, 1).indices == labels[:, None]).any(1).double().mean()) for k in range(1, 6)],
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "outputs": numbers(outputs),
        "targets": numbers(targets),
        "mae": float((outputs - targets).double().abs().mean()),
        "rmse": float((outputs - targets).double().square().mean().sqrt()),
    }


def main():
    made = {
        "torch": torch.__version__,
        "losses": losses(),
        "optimizers": optimizers(),
        "clipping": clipping(),
        "schedules": schedules(),
        "metrics": metrics(),
    }
    text = "{\n" + ",\n".join(f'"{name}": {json.dumps(part)}' for name, part in made.items()) + "\n}\n"
    (pathlib.Path(__file__).parent / "learn.json").write_text(text)


if __name__ == "__main__":
    main()
