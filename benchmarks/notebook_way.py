"""The other side of the benchmarks: a GAN trained as the notebook does it, written anew as a user would."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


def mlp_pair() -> tuple[nn.Module, nn.Module]:
    """The notebook's networks: dropout in the discriminator, a sigmoid at its end."""
    generator = nn.Sequential(
        *(nn.Linear(100, 256), nn.LeakyReLU(0.2)),
        *(nn.Linear(256, 512), nn.LeakyReLU(0.2)),
        *(nn.Linear(512, 1024), nn.LeakyReLU(0.2)),
        *(nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))),
    )
    discriminator = nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 1024), nn.LeakyReLU(0.2), nn.Dropout(0.3)),
        *(nn.Linear(1024, 512), nn.LeakyReLU(0.2), nn.Dropout(0.3)),
        *(nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Dropout(0.3)),
        *(nn.Linear(256, 1), nn.Sigmoid()),
    )
    return generator, discriminator


def conv_pair(width: int = 16, latent: int = 64) -> tuple[nn.Module, nn.Module]:
    """The convolutional pair of experiments/conditional.yaml, without labels."""
    generator = nn.Sequential(
        *(nn.Linear(latent, 4 * width * 49), nn.Unflatten(1, (4 * width, 7, 7)), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(2 * width, 1, 4, stride=2, padding=1), nn.Tanh()),
    )
    discriminator = nn.Sequential(
        *(nn.Conv2d(1, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(4 * width * 49, 1), nn.Sigmoid()),
    )
    return generator, discriminator


class NotebookWay:
    """One GAN and its data loader; `train` goes through the loader once."""

    def __init__(
        self,
        pair: tuple[nn.Module, nn.Module],
        *,
        root: Path,
        images: int,
        batch: int,
        latent: int,
        lr: float,
        device: str,
    ) -> None:
        to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
        mnist = datasets.MNIST(str(root), train=True, transform=to_tensor)
        self.loader = DataLoader(Subset(mnist, range(images)), batch_size=batch, shuffle=True, drop_last=True)
        self.generator, self.discriminator = (network.to(device) for network in pair)
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr=lr)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=lr)
        self.loss = nn.BCELoss()
        self.latent, self.device = latent, device

    def train(self) -> list[tuple[float, float]]:
        """Both losses of every step."""
        losses = []
        for batch, _ in self.loader:
            real = batch.to(self.device)
            ones = torch.ones(len(real), 1, device=self.device)
            zeros = torch.zeros(len(real), 1, device=self.device)

            self.d_optimizer.zero_grad()
            d_loss = self.loss(self.discriminator(real), ones)
            d_loss = d_loss + self.loss(self.discriminator(self.generator(self._noise(len(real)))), zeros)
            d_loss.backward()
            self.d_optimizer.step()

            self.g_optimizer.zero_grad()
            g_loss = self.loss(self.discriminator(self.generator(self._noise(len(real)))), ones)
            g_loss.backward()
            self.g_optimizer.step()
            losses.append((d_loss.item(), g_loss.item()))
        return losses

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, self.latent, device=self.device)
