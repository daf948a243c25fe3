"""Motion of Gaussians along B-splines, and a camera that follows a neural ODE (GaussianVideo,
2501.04782, sections 3.2 and 3.3), here in the plane.

A pose is a similarity, which maps a point x of the scene to the screen point

    c + b + s R(phi) (x - c)

with the frame's centre c. The hidden state follows dh / dtau = f(h, tau), tau in [0, 1] over the
clip; a linear map of h gives b (in frame heights), ln s and phi. This map starts at zero, so that
the camera starts at rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DEGREE = 3  # of splines
STATE, POSE = 8, 4  # sizes of the hidden state, and of (b_x, b_y, ln s, phi)
MAX_STEPS = 16  # of the integration; a cubic interpolates between them
SAMPLES, REWEIGHTINGS, MIN_ERROR = 64, 10, 1e-4  # of a robust similarity; pixels squared
PRETRAINING, PRETRAINING_RATE = 200, 2e-2  # Adam's updates and learning rate


def spline_basis(t: Tensor, frames: int, points: int) -> Tensor:
    """Return (B, points): the weights of the control points of a clamped, uniform cubic B-spline at
    positions `t` (B,) in [0, frames - 1], by the Cox-de Boor recursion. Each row sums to 1; the
    curve begins at the first control point and ends at the last."""
    spans = points - DEGREE  # at least 1
    u = (t / max(1, frames - 1) * spans).clamp(0, spans)[:, None]
    knots = torch.arange(-DEGREE, points + 1, device=t.device).clamp(0, spans).to(t.dtype)
    span = u.floor().clamp(max=spans - 1)  # the last instant belongs to the last span
    basis = (knots[None, :-1] == span) & (knots[None, 1:] == span + 1)
    basis = basis.to(t.dtype)
    for degree in range(1, DEGREE + 1):
        left, right = knots[: -degree - 1], knots[degree + 1 :]
        rising = (u - left) / (knots[degree:-1] - left).clamp(min=1e-9)
        falling = (right - u) / (right - knots[1:-degree]).clamp(min=1e-9)
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


class Camera(nn.Module):
    """The camera's poses at any time of a clip of `frames`."""

    def __init__(self, frames: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        self.last = max(1, frames - 1)
        self.steps = min(self.last, MAX_STEPS)
        self.centre, self.height = (width / 2, height / 2), height
        self.start = nn.Parameter(torch.zeros(STATE))
        self.inner = nn.Linear(STATE + 1, hidden)
        self.outer = nn.Linear(hidden, STATE)
        self.pose = nn.Linear(STATE, POSE)
        nn.init.zeros_(self.pose.weight)
        nn.init.zeros_(self.pose.bias)

    def _slope(self, h: Tensor, tau: float) -> Tensor:
        """Return dh / dtau."""
        inner = torch.addmv(self.inner.bias, self.inner.weight[:, :-1], h)
        inner = inner + tau * self.inner.weight[:, -1]
        return torch.addmv(self.outer.bias, self.outer.weight, torch.tanh(inner))

    def forward(self, t: Tensor) -> Tensor:
        """Return (B, 4) poses at positions `t` (B,) in frames: Runge-Kutta of order 4, with cubic
        Hermite interpolation between its steps."""
        h: Tensor = self.start
        length = 1 / self.steps
        states, slopes = [h], []
        for step in range(self.steps):
            tau = step * length
            first = self._slope(h, tau)
            second = self._slope(h + length / 2 * first, tau + length / 2)
            third = self._slope(h + length / 2 * second, tau + length / 2)
            fourth = self._slope(h + length * third, tau + length)
            h = h + length / 6 * (first + 2 * (second + third) + fourth)
            states.append(h)
            slopes.append(first)
        slopes.append(self._slope(h, 1.0))
        poses = self.pose(torch.stack(states))
        changes = torch.stack(slopes) @ self.pose.weight.T * length
        place = t * (self.steps / self.last)
        before = place.floor().long().clamp(0, self.steps - 1)
        u = (place - before)[:, None].to(poses)
        rest = 1 - u
        return (
            rest**2 * (1 + 2 * u) * poses[before]
            + u**2 * (1 + 2 * rest) * poses[before + 1]
            + u * rest * (rest * changes[before] - u * changes[before + 1])
        )

    def at_rest(self, t: Tensor) -> Tensor:
        """Return (B, 4) poses of a camera at rest."""
        return self.start.new_zeros(len(t), POSE)

    def to_screen(self, poses: Tensor, points: Tensor) -> Tensor:
        """Map points of the scene, (B or 1, N, 2) x and y in pixels, to the screen: (B, N, 2)."""
        scale = poses[:, 2].exp()
        return _transformed(points, self.centre, poses[:, 3], scale, self._shift(poses))

    def to_scene(self, poses: Tensor, points: Tensor) -> Tensor:
        """Invert `to_screen`."""
        scale = (-poses[:, 2]).exp()
        return _transformed(points, self._shift(poses), -poses[:, 3], scale, self.centre)

    def _shift(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and y, (B, 1) each, of the scene's centre on the screen."""
        shift = self.height * poses[:, :2]
        return self.centre[0] + shift[:, :1], self.centre[1] + shift[:, 1:]

    def follow(self, t: Tensor, poses: Tensor) -> None:
        """Fit the ODE to a path: `poses` (N, 4) at positions `t` (N,), by squared error."""
        with torch.enable_grad():
            if poses.abs().max() > 0:
                nn.init.normal_(self.pose.weight, std=0.01)
            optimizer = torch.optim.Adam(self.parameters(), lr=PRETRAINING_RATE)
            for update in range(PRETRAINING):
                optimizer.param_groups[0]["lr"] = PRETRAINING_RATE * (1 - update / PRETRAINING)
                optimizer.zero_grad()
                torch.autograd.backward((self(t) - poses).square().sum())
                optimizer.step()


def _transformed(
    points: Tensor,
    centre: tuple[Tensor | float, Tensor | float],
    angle: Tensor,
    scale: Tensor,
    new_centre: tuple[Tensor | float, Tensor | float],
) -> Tensor:
    """Rotate points (B, N, 2) about a centre by `angle` (B,), x towards y, scale them, and move the
    centre to the new one."""
    cosine, sine = (scale * angle.cos())[:, None], (scale * angle.sin())[:, None]
    x, y = (part - middle for part, middle in zip(points.unbind(-1), centre, strict=True))
    x, y = cosine * x - sine * y + new_centre[0], sine * x + cosine * y + new_centre[1]
    return torch.stack([x, y], -1)


def similarity_of(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the similarity z -> a z + b, complex, that most of a flow (2, H, W) follows, x and y
    in pixels: iteratively reweighted least squares with Geman-McClure weights."""
    step = max(1, max(flow.shape[1:]) // SAMPLES)
    x, y = flow[:, ::step, ::step].double()
    rows, columns = x.shape
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    real, imaginary = (step * part.double() + 0.5 for part in reversed(grid))
    z = torch.complex(real, imaginary).flatten()
    target = z + torch.complex(x, y).flatten()
    weights = torch.ones_like(z.real)
    a, b = torch.ones_like(z[0]), torch.zeros_like(z[0])
    for _ in range(REWEIGHTINGS):
        share = weights / weights.sum()
        mean, to = (share * z).sum(), (share * target).sum()
        centred = z - mean
        spread = (share * centred.abs().square()).sum()
        if spread > 0:
            a = (share * centred.conj() * (target - to)).sum() / spread
        b = to - a * mean
        error = (a * z + b - target).abs().square()
        weights = 1 / (1 + error / error.median().clamp(min=MIN_ERROR)).square()
    return a, b
