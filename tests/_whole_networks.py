"""Networks as strangers write them, small: heads with ``view``, U-Nets, layers that pruning leaves with few channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Small(NamedTuple):
    """A network and the shape of its images."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 8, 8)


SMALL: dict[str, Small] = {}


def small(name: str, shape: tuple[int, ...] = (3, 8, 8)) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a class of networks into the table."""

    def enter(cls: type[nn.Module]) -> type[nn.Module]:
        SMALL[name] = Small(cls, shape)
        return cls

    return enter


def block(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())


class Head(nn.Module):
    """A head that views its features, as most scripts do."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.view(x.size(0), -1))
        return out


@small("plain, viewed")
class PlainViewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(block(3, 8), block(8, 12, 2), block(12, 8)), Head(8 * 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


@small("one channel, viewed", (1, 8, 8))
class GreyViewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1), Head(12 * 64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.b(F.relu(self.a(x)))))
        return out


@small("residual with strided shortcuts, viewed")
class ResidualViewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = block(3, 8), block(8, 12, 2), nn.Conv2d(12, 12, 3, padding=1)
        self.shortcut, self.pool, self.head = nn.Conv2d(8, 12, 1, 2), nn.AdaptiveAvgPool2d(2), Head(48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.head(self.pool(F.relu(self.b(self.a(x)) + self.shortcut(x))))
        return out


@small("strided 1x1 layers of few channels")
class Strided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(8, 7, 2, 1), block(7, 6, 2, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.c(self.b(self.a(x))).mean((2, 3)))
        return out


@small("U-Net")
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 8), block(8, 12, 2)
        self.up, self.c, self.fc = nn.ConvTranspose2d(12, 8, 2, 2), block(16, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        out: Tensor = self.fc(self.c(torch.cat([a, self.up(self.b(a))], 1)).mean((2, 3)))
        return out


@small("U-Net that ends in its images' sum")
class Restoring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.up, self.out = (
            block(3, 8),
            block(8, 12, 2),
            nn.ConvTranspose2d(12, 8, 1, 2, output_padding=1),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        out: Tensor = x + self.out(F.relu(a + self.up(self.b(a))))
        return out


@small("segmentation, interpolated")
class Segmenting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(8, 12, 2), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": F.interpolate(self.c(self.b(self.a(x))), size=x.shape[-2:], mode="bilinear")}


@small("autoencoder")
class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(3, 8, 2), block(8, 12, 2))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(12, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


@small("transposed layers alone")
class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.net(x).mean((2, 3)))
        return out


@small("perceptron, viewed", (1, 8, 8))
class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 20), nn.Linear(20, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(F.relu(self.b(F.relu(self.a(x.view(-1, 64))))))
        return out


@small("one layer")
class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(x).amax((2, 3))
        return out


@small("sound", (2, 32))
class Sound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(2, 8, 5, 2, 2), nn.Conv1d(8, 6, 1, 2), nn.Conv1d(6, 8, 3)
        self.fc = nn.Linear(8 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        out: Tensor = self.fc(x.view(x.shape[0], -1))
        return out


@small("volumes", (2, 4, 6, 6))
class Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv3d(2, 8, 3, padding=1), nn.Conv3d(8, 6, 1, 2), nn.Linear(6 * 2 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.a(x))))
        out: Tensor = self.fc(x.view(x.size(0), -1))
        return out


@small("depthwise separable, excited")
class Separable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = block(3, 8), block(8, 16, 1, 1)
        self.depth = nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        self.squeeze, self.excite, self.project = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 8, 1)
        self.head = Head(8 * 16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depth(self.expand(self.stem(x))))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        out: Tensor = self.head(self.project(x))
        return out


@small("transformer of patches")
class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12)
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
        self.up, self.down, self.fc = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).view(len(x), -1, 3, 3, 4).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))
        out: Tensor = self.fc((x + self.down(F.gelu(self.up(x)))).mean(1))
        return out


@small("two outputs, the second of no use")
class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc, self.aux = block(3, 8), block(8, 8, 2), nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.a(x)
        return self.fc(self.b(a).mean((2, 3))), self.aux(a.mean((2, 3)))


@small("recurrent head", (3, 8, 8))
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.rnn, self.fc = (
            block(3, 8),
            block(8, 6),
            nn.GRU(6 * 8, 7, batch_first=True),
            nn.Linear(7, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).permute(0, 3, 1, 2).flatten(2)
        out: Tensor = self.fc(self.rnn(x)[0][:, -1])
        return out
