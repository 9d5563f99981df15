"""A trial that goes on where an interrupted attempt at it stopped: a small network in PyTorch, a loop of its own, checkpoints by rename.

Everything that decides the next step is in the checkpoint: weights, the optimiser's state, the generator that draws the batches, the step.
So an interrupted trial prints the same numbers as an undisturbed one. All points follow from the seed.
"""

import argparse
import json
import os

import torch
from torch import nn

# How often the hint is right.
DOMAINS = {"dawn": 0.9, "dusk": 0.2, "noon": 0.8}
POINTS = 400
BATCH = 64
EVALUATE_EVERY = 20
CHECKPOINT_EVERY = 10


def draw(domain, seed):
    """The points of a domain, as features and label: four fifths `in`, the rest `out`."""
    generator = torch.Generator().manual_seed(1000 * seed + sorted(DOMAINS).index(domain))
    label = (torch.rand(POINTS, generator=generator) < 0.5).float()
    sign = 2 * label - 1
    right = torch.where(torch.rand(POINTS, generator=generator) < DOMAINS[domain], 1.0, -1.0)
    noise = torch.randn(POINTS, 2, generator=generator)
    features = torch.stack([0.8 * sign + noise[:, 0], sign * right + 0.5 * noise[:, 1]], dim=1)
    out = POINTS // 5
    return {"in": (features[out:], label[out:]), "out": (features[:out], label[:out])}


def evaluate(network, features, label):
    """Accuracy, mean cross entropy, and calibration error (one bin for each tenth of the confidence)."""
    with torch.no_grad():
        logits = network(features).squeeze(1)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, label).item()
    right = ((logits > 0) == (label == 1)).float()
    confidence = torch.sigmoid(logits.abs())
    bins = (confidence * 10).long()
    gaps = [(right[bins == b].mean() - confidence[bins == b].mean()).abs() * (bins == b).sum() for b in bins.unique()]
    return {"n": len(label), "correct": int(right.sum()), "loss": loss, "ece": (sum(gaps) / len(label)).item()}


def tell(**metric):
    print(json.dumps(metric), flush=True)


def save(path, state):
    """All of the file or nothing: a process that is killed here leaves the checkpoint before."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--held-out", choices=sorted(DOMAINS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--checkpoints", default=os.environ.get("SORTIE_CHECKPOINTS", "."))
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    domains = {domain: draw(domain, options.seed) for domain in sorted(DOMAINS)}
    training = [splits["in"] for domain, splits in domains.items() if domain != options.held_out]
    features, label = (torch.cat(parts) for parts in zip(*training))
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=options.lr)
    batches = torch.Generator().manual_seed(options.seed)
    first = 0

    path = os.path.join(options.checkpoints, "last.pt")
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        batches.set_state(state["batches"])
        first = state["step"] + 1
        print(f"going on at step {first}")

    for step in range(first, options.steps + 1):
        chosen = torch.randint(len(label), (BATCH,), generator=batches)
        loss = nn.functional.binary_cross_entropy_with_logits(network(features[chosen]).squeeze(1), label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tell(step=step, loss=loss.item())
        if step % EVALUATE_EVERY == 0 or step == options.steps:
            for domain, splits in domains.items():
                for split, points in splits.items():
                    tell(step=step, domain=domain, split=split, **evaluate(network, *points))
        # After what is printed for the step: what is in the checkpoint is not printed again.
        if step % CHECKPOINT_EVERY == 0:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "batches": batches.get_state(), "step": step}
            save(path, state)


if __name__ == "__main__":
    main()
