"""LeNet-5 of the study in eager PyTorch: the model, the dissimilarity loss, one measurement."""

import time

import torch
from torch import nn
from torch.nn import functional as F

IMAGES = 20_000
# CIFAR-10's channel means and deviations, as the kernel standardises.
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1) * 255
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1) * 255


class LeNet5(nn.Module):
    """Parameters under the names that dissim's model.safetensors uses."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        """Standardised images [n, 3, 32, 32] to embeddings [n, 84] and logits [n, 10]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        z = F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))
        return z, self.fc3(z)


def load(images, rows, memory_format):
    """u8 images [rows, 3, 32, 32], gathered and standardised."""
    x = (images[rows].float() - MEAN) / STD
    return x.contiguous(memory_format=memory_format)


def dissimilarity(z, groups, eps=1e-6):
    """Mean cosine similarity of pairs in one group, by group sums: O(batch x 84)."""
    u = z * (z.square().sum(1, keepdim=True) + eps * eps).rsqrt()
    _, group = torch.unique(groups, return_inverse=True)
    counts = torch.bincount(group)
    pairs = (counts * (counts - 1)).sum()
    if pairs == 0:
        return z.sum() * 0
    sums = torch.zeros(len(counts), z.shape[1]).index_add(0, group, u)
    return (sums.square().sum() - u.square().sum()) / pairs


def images_per_second(mode, batch, seconds, memory_format):
    """One measurement: mode is erm, dissimilarity or predict."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    model = LeNet5().to(memory_format=memory_format)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    labels = torch.arange(batch) % 10
    groups = torch.arange(batch) % 80
    at = 0

    def step():
        nonlocal at
        rows = (torch.arange(at, at + batch) * 7919) % IMAGES
        at += batch
        x = load(images, rows, memory_format)
        if mode == "predict":
            with torch.inference_mode():
                model(x)
            return
        z, logits = model(x)
        loss = F.cross_entropy(logits, labels)
        if mode == "dissimilarity":
            loss = loss + 1.25 * dissimilarity(z, groups)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    for _ in range(10):
        step()
    start = time.perf_counter()
    steps = 0
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * batch / (time.perf_counter() - start)
