"""Pruning channels, tracing included: kdlab beside torch-pruning, same network, same ratio, same ranking, same run.

Run as ``python benchmarks/pruning_channels.py``. The aim: 1.5 s for resnet50. Both take turns; a ratio is taken within
its turn. The two smaller networks are then timed beside each other and the original.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import nn

from kdlab import pruning as prune

AIM = 1.5


def seconds(act: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def by_torch_pruning(model: nn.Module, example: torch.Tensor, ratio: float) -> nn.Module:
    """Prune a copy, as `remove` does; the last layer's outputs stay."""
    import torch_pruning as tp

    smaller = copy.deepcopy(model)
    last = [m for m in smaller.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    pruner = tp.pruner.BasePruner(
        smaller, example, tp.importance.MagnitudeImportance(p=1), pruning_ratio=ratio, ignored_layers=[last]
    )
    pruner.step()
    return smaller


def latency(models: dict[str, nn.Module], example: torch.Tensor, turns: int = 15) -> dict[str, float]:
    """Return the median seconds of a forward pass, the models taking turns."""
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for turn in range(turns + 2):
            for name, model in models.items():
                spent, _ = seconds(lambda model=model: model(example))
                if turn >= 2:  # warm by then
                    times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def compare(name: str, size: int, ratio: float, turns: int) -> None:
    model, example = getattr(torchvision.models, name)(weights=None).eval(), torch.randn(1, 3, size, size)
    ours, theirs = [], []
    for _ in range(turns):
        spent, small = seconds(lambda: prune.channels.remove(model, example, ratio, "l1"))
        ours.append(spent)
        spent, their_small = seconds(lambda: by_torch_pruning(model, example, ratio))
        theirs.append(spent)
    same = [p.shape for p in small.parameters()] == [p.shape for p in their_small.parameters()]
    against = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{name} at {size} x {size}, ratio {ratio}, {torch.get_num_threads()} thread(s), {turns} turns")
    print(f"  kdlab {statistics.median(ours):.2f} s   torch-pruning {statistics.median(theirs):.2f} s", end="")
    print(f"   ratio {against:.2f}   same shapes: {same}")
    times = latency({"original": model, "kdlab": small.eval(), "torch-pruning": their_small.eval()}, example)
    print("  forward pass: " + ", ".join(f"{who} {spent * 1e3:.1f} ms" for who, spent in times.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "densenet121", "mobilenet_v3_small"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for network in asked.networks:
        compare(network, asked.size, asked.ratio, asked.turns)
