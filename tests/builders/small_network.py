"""A network that several programs can run: x [B, 4, height, width] and times [B]."""

import torch


class SmallNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) / 2)

    def forward(self, x, t):
        turned = torch.einsum("ij,bjhw->bihw", self.weight, x)
        return torch.tanh(turned + torch.sin(t / 300 + 1)[:, None, None, None]) + 0.3 * x
