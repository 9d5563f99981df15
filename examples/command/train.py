"""A trial that is no fine-tuning: logistic regression on points of three domains, trained on two of them. Python 3, no packages.

Every point has a cause of its label, the same in all domains, and a hint that is right in some domains and wrong in others. What is
learned from the hint costs accuracy on the held-out domain. All points follow from the seed, so a trial gives the same numbers anywhere.
"""

import argparse
import json
import math
import random
import sys

# How often the hint is right.
DOMAINS = {"dawn": 0.9, "dusk": 0.2, "noon": 0.8}
POINTS = 500
EVALUATE_EVERY = 20
WEIGHT_DECAY = 0.1
BAD_DATA = 65


def draw(domain, labels, seed):
    """The points of a domain, as features and label: four fifths `in`, the rest `out`."""
    rng = random.Random(f"{domain} {seed}")
    points = []
    for _ in range(POINTS):
        label = rng.random() < 0.5
        sign = 1 if label else -1
        hint = sign if rng.random() < DOMAINS[domain] else -sign
        features = (rng.gauss(0.8 * sign, 1), rng.gauss(hint, 0.5), 1.0)
        if labels == "noisy" and rng.random() < 0.2:
            label = not label
        points.append((features, 1.0 if label else 0.0))
    out = POINTS // 5
    return {"in": points[out:], "out": points[:out]}


def score(weights, features):
    return sum(weight * feature for weight, feature in zip(weights, features))


def loss(weights, points):
    """Mean cross entropy, in nats, without overflow as long as the scores are finite."""
    total = 0.0
    for features, label in points:
        against = score(weights, features) * (1 - 2 * label)
        total += max(against, 0.0) + math.log1p(math.exp(-abs(against)))
    return total / len(points)


def update(weights, points, lr):
    gradient = [WEIGHT_DECAY * weight for weight in weights]
    for features, label in points:
        # The logistic function, without overflow.
        error = 0.5 * (1 + math.tanh(score(weights, features) / 2)) - label
        for index, feature in enumerate(features):
            gradient[index] += error * feature / len(points)
    return [weight - lr * slope for weight, slope in zip(weights, gradient)]


def tell(**metric):
    print(json.dumps(metric), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--held-out", choices=sorted(DOMAINS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    if options.labels not in ("clean", "noisy"):
        print(f"there are no {options.labels} labels; clean and noisy are there", file=sys.stderr)
        sys.exit(BAD_DATA)

    domains = {domain: draw(domain, options.labels, options.seed) for domain in sorted(DOMAINS)}
    training = [point for domain, splits in domains.items() if domain != options.held_out for point in splits["in"]]
    print(f"{len(training)} training points; held out: {options.held_out}")
    weights = [0.0, 0.0, 0.0]
    for step in range(options.steps + 1):
        # A loss that is not finite is printed as Infinity or NaN, which ends the trial as diverged.
        tell(step=step, loss=loss(weights, training))
        weights = update(weights, training, options.lr)
        if step % EVALUATE_EVERY == 0 or step == options.steps:
            for domain, splits in domains.items():
                for split, points in splits.items():
                    correct = sum((score(weights, features) > 0) == (label == 1) for features, label in points)
                    tell(step=step, domain=domain, split=split, n=len(points), correct=correct, loss=loss(weights, points))


if __name__ == "__main__":
    main()
