"""A loop of its own with three metrics and checkpoints by rename, in plain Python: what the PyTorch example does, without PyTorch.

The state is a number that every step changes; what is printed follows from it. Slow enough that a test can kill it in the middle.
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--checkpoints", default=os.environ.get("SORTIE_CHECKPOINTS"))
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--fail-at", type=int)
options = parser.parse_args()

path = os.path.join(options.checkpoints, "last.json")
state, first = options.seed + 1, 0
if os.path.exists(path):
    with open(path) as file:
        saved = json.load(file)
    state, first = saved["state"], saved["step"] + 1


def number():
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
    return (state >> 33) / 2**31


for step in range(first, options.steps + 1):
    print(json.dumps({"step": step, "loss": number()}), flush=True)
    if step % 5 == 0 or step == options.steps:
        for domain in ["dawn", "dusk"]:
            correct = int(100 * number())
            metrics = {"loss": number(), "f1": number(), "ece": number()}
            print(json.dumps({"step": step, "domain": domain, "split": "out", "n": 100, "correct": correct, **metrics}), flush=True)
    if step % 3 == 0:
        with open(path + ".new", "w") as file:
            json.dump({"state": state, "step": step}, file)
        os.replace(path + ".new", path)
    if step == options.fail_at and first == 0:
        raise SystemExit(75)
    time.sleep(options.pause)
