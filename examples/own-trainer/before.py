"""A plain PyTorch script: which way do the bars in an image run?"""

import torch
from torch import nn
from torch.nn import functional as F


def bars(count, seed):
    """Noisy images (count, 1, 12, 12) of bars that run across, down or both ways."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=g)
    lit = torch.rand(2, count, 12, generator=g) < 0.3
    across = lit[0][:, :, None] & (y != 1)[:, None, None]
    down = lit[1][:, None, :] & (y != 0)[:, None, None]
    x = (across | down).float() * 0.5 + torch.rand(count, 12, 12, generator=g) * 0.5
    return x[:, None], y


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


train_x, train_y = bars(600, seed=0)
val_x, val_y = bars(200, seed=1)
test_x, test_y = bars(200, seed=2)

model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(5):
    model.train()
    for chosen in torch.randperm(len(train_x)).split(50):
        optimizer.zero_grad()
        F.cross_entropy(model(train_x[chosen]), train_y[chosen]).backward()
        optimizer.step()
    print(epoch, accuracy(model, val_x, val_y))

print("test", accuracy(model, test_x, test_y))
