"""Degradation of the paper and uneven light: factors of the colour of a degraded page.

Creases, stains, mould and holes are on the paper, in millimetres of the flat page, so that they follow its geometry;
shadow, moire and streaks are in the image. Each is a formula of the pixel's centre and of random numbers from the
artefact's own stream. Bells and steps are polynomials: an exponential would differ in its last bit between the lanes
and the remainder of a vector loop, a polynomial is the same anywhere in a batch, and faster.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ecgscan_lite.rendering.randomness import stream

_CREASES, _STAINS, _SPOTS, _STREAKS = 3, 5, 12, 4
_COFFEE, _MOULD = (0.25, 0.45, 0.7), (0.6, 0.5, 0.65)  # loss of red, green and blue in the middle of a blot
_HOLE_RADIUS, _HOLE_MARGIN, _HOLE_DISTANCE = 3.0, 12.0, 80.0  # mm, of ISO 838


def creases(x: Tensor, y: Tensor, size: tuple[float, float], px_per_mm: float, seeds: np.ndarray) -> Tensor:
    """Folds, nearly parallel to the edges: a dark line, and a slope that is lit from one side.

    Args:
        x, y: position of each pixel on the page, mm. Shape: (n, H, W).
        size: width and height of the page, mm.
        px_per_mm: scale; a line thinner than a pixel is drawn fainter instead.
        seeds: seeds of the pages. Shape: (n,).

    Returns:
        Loss of light at full strength. Shape: (n, 1, H, W).
    """
    u = _uniforms("creases", seeds, _CREASES * 4, x.device).view(len(x), _CREASES, 4, 1, 1)
    line = max(0.4, 0.6 / px_per_mm)
    loss = torch.zeros_like(x)
    for k in range(_CREASES):
        x0, y0, turn, upright = u[:, k].unbind(1)
        angle = (upright > 0.5) * (torch.pi / 2) + (turn - 0.5) * 0.3
        distance = (x - x0 * size[0]) * _cos(angle) + (y - y0 * size[1]) * _sin(angle)
        loss += 0.4 / line * _bell(distance / line)
        loss += 0.3 * (distance / line).clamp(-1, 1) / (1 + distance.abs() / 8) ** 2
    return loss.unsqueeze(1)


def stains(x: Tensor, y: Tensor, size: tuple[float, float], seeds: np.ndarray) -> Tensor:
    """Dried drops: blots with a darker rim. Shapes as in `creases`; returns (n, 3, H, W)."""
    u = _uniforms("stains", seeds, _STAINS * 10, x.device).view(len(x), _STAINS, 10)
    centres = u[..., :2] * torch.tensor(size, dtype=x.dtype, device=x.device)
    return _blots(x, y, centres, 5 + 25 * u[..., 2] ** 2, u[..., 3], u[..., 4:], rim=0.6, soft=0.06, colour=_COFFEE)


def mould(x: Tensor, y: Tensor, size: tuple[float, float], seeds: np.ndarray) -> Tensor:
    """Spots in two clusters. Shapes as in `creases`; returns (n, 3, H, W)."""
    u = _uniforms("mould", seeds, 4 + _SPOTS * 11, x.device)
    clusters = u[:, :4].view(-1, 2, 2)[:, torch.arange(_SPOTS, device=x.device) % 2]
    u = u[:, 4:].view(len(x), _SPOTS, 11)
    centres = clusters + 0.35 * (u[..., :2] - 0.5) * (0.3 + u[..., 10:])
    centres, radii = centres * torch.tensor(size, dtype=x.dtype, device=x.device), 1 + 9 * u[..., 2] ** 2
    return _blots(x, y, centres, radii, 0.4 + 0.6 * u[..., 3], u[..., 4:10], rim=0.0, soft=0.3, colour=_MOULD)


def paper_around_holes(x: Tensor, y: Tensor, size: tuple[float, float], px_per_mm: float, seeds: np.ndarray) -> Tensor:
    """Fraction of each pixel outside of two punched holes, at the left or the upper edge. Shape: (n, 1, H, W)."""
    upper = _uniforms("holes", seeds, 1, x.device).view(-1, 1, 1) < 0.3
    across, along = torch.where(upper, y, x), torch.where(upper, x - size[0] / 2, y - size[1] / 2)
    nearest = along - _HOLE_DISTANCE / 2 * along.sign()
    distance = ((across - _HOLE_MARGIN) ** 2 + nearest**2).sqrt()
    return ((distance - _HOLE_RADIUS) * px_per_mm + 0.5).clamp(0, 1).unsqueeze(1)


def shadow(height: int, width: int, seeds: np.ndarray, device: torch.device) -> Tensor:
    """The shadow of a hand or head at an edge: loss of light at full strength. Shape: (n, 1, H, W)."""
    u = _uniforms("shadow", seeds, 10, device)
    x, y = (a.expand(len(u), -1, -1) for a in _pixel_centres(height, width, device))
    angle = 2 * torch.pi * u[:, 0]
    centres = torch.stack((width * (0.5 + 0.6 * _cos(angle)), height * (0.5 + 0.6 * _sin(angle))), dim=-1)
    radii = (0.25 + 0.3 * u[:, 1:2]) * max(height, width)
    strength, wobble = torch.ones_like(radii), u[:, None, 2:8]
    return _blots(x, y, centres[:, None], radii, strength, wobble, rim=0.0, soft=0.12, colour=(1.0,))


def moire(height: int, width: int, seeds: np.ndarray, device: torch.device) -> Tensor:
    """Beats between the rasters of screen and sensor, for each colour: -1 to 1. Shape: (n, 3, H, W)."""
    u = _uniforms("moire", seeds, 5, device).view(-1, 5, 1, 1, 1)
    angle, waves, bow = torch.pi * u[:, 0], 12 + 40 * u[:, 1], 3 * (u[:, 2] - 0.5)
    x, y = (a.unsqueeze(1) / width - 0.5 for a in _pixel_centres(height, width, device))
    phase = waves * (x * _cos(angle) + y * _sin(angle)) + 10 * bow * (x**2 + y**2)
    thirds = torch.arange(3, device=device).view(1, 3, 1, 1) * (0.1 + 0.2 * u[:, 3])
    return _wave(phase + thirds + u[:, 4])


def streaks(width: int, seeds: np.ndarray, device: torch.device) -> Tensor:
    """Columns darkened by specks on a scanner's glass: loss of light. Shape: (n, 1, 1, W)."""
    u = _uniforms("streaks", seeds, 2 * _STREAKS, device).view(-1, _STREAKS, 2, 1)
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    half = 0.5 / min(width, 1000)
    lines = (2 - (x - u[:, :, 0]).abs() / half).clamp(0, 1) * u[:, :, 1]
    return lines.amax(dim=1)[:, None, None, :]


def table(height: int, width: int, seeds: np.ndarray, device: torch.device) -> Tensor:
    """The grain of a wooden table: loss of light at full strength. Shape: (n, 1, H, W)."""
    u = _uniforms("table", seeds, 4, device).view(-1, 4, 1, 1)
    x, y = (a / width for a in _pixel_centres(height, width, device))
    along, across = torch.where(u[:, 0] < 0.5, x, y), torch.where(u[:, 0] < 0.5, y, x)
    bent = across + 0.008 * _wave(0.7 * along + u[:, 1]) + 0.002 * _wave(2 * along + 3 * across + u[:, 2])
    return (0.5 + 0.3 * _wave(14 * bent + u[:, 3]) + 0.2 * _wave(45 * bent)).unsqueeze(1)


def _blots(
    x: Tensor, y: Tensor, centres: Tensor, radii: Tensor, strength: Tensor, wobble: Tensor, *, rim: float, soft: float,
    colour: tuple[float, ...],
) -> Tensor:  # fmt: skip
    """Uneven discs one over the other: loss of light of each colour.

    Shapes: x, y (n, H, W); centres (n, K, 2); radii, strength (n, K); wobble (n, K, 6) in [0, 1) ->
    (n, len(colour), H, W).
    """
    left = x.new_ones(len(x), len(colour), *x.shape[1:])
    loss = torch.tensor(colour, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    for k in range(centres.shape[1]):
        dx, dy = x - centres[:, k, 0, None, None], y - centres[:, k, 1, None, None]
        distance = (dx**2 + dy**2).sqrt().clamp(min=1e-6)
        cosine, sine = dx / distance, dy / distance
        second, third = 2 * cosine**2 - 1, cosine * (4 * cosine**2 - 3)  # cosines of two and three times the angle
        a = 0.3 * (wobble[:, k, :, None, None] - 0.5)
        outline = 1 + a[:, 0] * cosine + a[:, 1] * sine + a[:, 2] * second + a[:, 3] * cosine * sine
        outline += a[:, 4] * third + a[:, 5] * sine * (4 * cosine**2 - 1)
        rho = distance / (radii[:, k, None, None] * outline)
        cover = (1 - rim) * _step((1 - rho) / soft)
        if rim:
            cover = cover + rim * _bell((rho - 1) / 0.05)
        left *= 1 - loss * (strength[:, k, None, None] * cover).unsqueeze(1)
    return 1 - left


def _cos(angle: Tensor) -> Tensor:
    """The cosine, in double precision, so that the float is the same on every device."""
    return angle.double().cos().float()


def _sin(angle: Tensor) -> Tensor:
    return _cos(angle - torch.pi / 2)


def _wave(turns: Tensor) -> Tensor:
    """About sin(2 pi x): a parabola for each half turn."""
    t = turns - turns.floor() - 0.5
    return 8 * t * (2 * t.abs() - 1)


def _bell(z: Tensor) -> Tensor:
    """About exp(-z^2), and 0 beyond 2."""
    return (1 - z**2 / 4).clamp_(min=0).square_().square_()


def _step(z: Tensor) -> Tensor:
    """About the logistic function; 0 below -3.5 and 1 above 3.5."""
    t = (0.5 + z / 7).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def _uniforms(name: str, seeds: np.ndarray, n: int, device: torch.device) -> Tensor:
    """The numbers of `stream` on a device. Shape: float32 (B, n)."""
    return torch.from_numpy(stream(name, seeds, n)).to(device=device, dtype=torch.float32)


def _pixel_centres(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of the centres of all pixels. Shape: (1, H, W) each."""
    y, x = (torch.arange(n, device=device, dtype=torch.float32) + 0.5 for n in (height, width))
    return x.view(1, 1, -1).expand(1, height, width), y.view(1, -1, 1).expand(1, height, width)
