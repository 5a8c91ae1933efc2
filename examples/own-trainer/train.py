"""The same script as a trainer of a search: the network is the search's, the loop stays yours."""

import torch
from torch.nn import functional as F

from kinase_trainer import sdk


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

with sdk.trial(input=(1, 12, 12), outputs=3, train=600, validation=200, test=200) as trial:
    model = trial.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trial.keep(model=model, optimizer=optimizer)
    for epoch in trial.epochs():
        model.train()
        for chosen in torch.randperm(len(train_x)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(train_x[chosen]), train_y[chosen]).backward()
            optimizer.step()
        trial.report(epoch, val_accuracy=accuracy(model, val_x, val_y))
    if trial.testing:
        trial.report_test(test_accuracy=accuracy(model, test_x, test_y))
