"""The plain PyTorch program that `cargo xtask bench train` runs beside Sortie: the settings of the paper's reference code.

NCHW, the number format and the allocator that PyTorch comes with, PIL transforms in loader processes (one or more for each training
domain), BatchNorm in evaluation mode, torch.optim.SGD. Prints one JSON object: images per second, and the share of the time that the
training loop waited for data.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
import torchvision
from torchvision import transforms


def network(backbone, classes):
    if backbone.startswith("resnet50"):
        model = torchvision.models.resnet50(weights=None)
        model.fc = torch.nn.Linear(2048, classes)
    elif backbone == "efficientnet-lite0":
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name("efficientnet-lite0")
        model._fc = torch.nn.Linear(1280, classes)
    else:
        raise SystemExit(f"this program knows resnet50-v1, resnet50-v2 and efficientnet-lite0, not {backbone}")
    return model.eval()


def loader(root, pixels, batch, held_out, processes):
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(pixels, scale=(0.7, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.3, 0.3, 0.3, 0.3),
            transforms.RandomGrayscale(),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    import os

    loaders = []
    for domain in sorted(entry.name for entry in os.scandir(root) if entry.is_dir()):
        if domain == held_out:
            continue
        images = torchvision.datasets.ImageFolder(os.path.join(root, domain), transform)
        sampler = torch.utils.data.RandomSampler(images, replacement=True, num_samples=10**7)
        loaders.append(iter(torch.utils.data.DataLoader(images, batch_size=batch, sampler=sampler, num_workers=processes, drop_last=True)))
    return loaders, len(images.classes)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--backbone", required=True)
    arguments.add_argument("--dataset", required=True, help="the dataset's folder")
    arguments.add_argument("--held-out", required=True)
    arguments.add_argument("--pixels", type=int, default=224)
    arguments.add_argument("--batch-per-domain", type=int, default=32)
    arguments.add_argument("--seconds", type=float, default=30)
    arguments.add_argument("--threads", type=int, required=True)
    arguments.add_argument("--loaders", type=int, default=1, help="loader processes of each training domain")
    arguments.add_argument("--device", default="cpu")
    arguments = arguments.parse_args()

    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    loaders, classes = loader(
        arguments.dataset, arguments.pixels, arguments.batch_per_domain, arguments.held_out, arguments.loaders
    )
    model = network(arguments.backbone, classes).to(device)
    # A rate that moves nothing: random weights would diverge at a real one, and a step takes as long.
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9, weight_decay=1e-4)

    images = waited = 0.0
    step, begun = 0, time.perf_counter()
    while True:
        if step == 2:
            # Two steps to warm up.
            images, waited, begun = 0.0, 0.0, time.perf_counter()
        asked = time.perf_counter()
        batches = [next(domain) for domain in loaders]
        waited += time.perf_counter() - asked
        x = torch.cat([batch[0] for batch in batches]).to(device)
        y = torch.cat([batch[1] for batch in batches]).to(device)
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        images += len(x)
        step += 1
        seconds = time.perf_counter() - begun
        if step > 4 and seconds >= arguments.seconds:
            break
    print(json.dumps({"images_per_second": images / seconds, "data_wait_fraction": waited / seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
