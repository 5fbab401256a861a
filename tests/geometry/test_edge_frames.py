"""Edge frames: rotations to the polar axis y, smooth wherever an edge can point."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import largest, randn

from eqv2_plugin.geometry.edge_frames import _CHART_BORDER, edge_frames

AXES = [[0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]]


def latitude(y: float, azimuth: float) -> list[float]:
    radius = math.sqrt(1 - y * y)
    return [radius * math.cos(azimuth), y, radius * math.sin(azimuth)]


def difficult_directions() -> torch.Tensor:
    """Axes, neighbourhoods of both poles, and both sides of the border between the charts."""
    rows = [[float(c) for c in axis] for axis in AXES]
    for sign in (1.0, -1.0):
        for offset in (1e-3, 1e-6, 1e-9, 1e-12, 1e-30):
            rows += [[offset, sign, 0.0], [0.0, sign, -offset], [offset, sign, offset]]
    for step in (-1e-3, -1e-9, -1e-15, 0.0, 1e-15, 1e-9, 1e-3):
        rows += [latitude(_CHART_BORDER + step, azimuth) for azimuth in (0.0, 0.7, 2.9, 4.1)]
    return torch.tensor(rows, dtype=torch.float64)


def edges(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    vectors = torch.cat((difficult_directions(), randn(0, 200, 3)))
    lengths = 0.4 + 11 * torch.rand(len(vectors), 1, generator=torch.Generator().manual_seed(1))
    directions = vectors / vectors.norm(dim=1, keepdim=True)
    return (directions * lengths).to(dtype)


PRECISION = {torch.float64: 1e-14, torch.float32: 2e-6}
dtypes = pytest.mark.parametrize("dtype", list(PRECISION), ids=str)


@dtypes
def test_frame_turns_its_edge_to_the_polar_axis(dtype):
    vectors = edges(dtype)
    lengths = vectors.norm(dim=1)
    rotated = torch.einsum("eij,ej->ei", edge_frames(vectors), vectors) / lengths.unsqueeze(1)
    wanted = torch.tensor([0.0, 1.0, 0.0], dtype=dtype).expand_as(rotated)
    assert largest(rotated - wanted) < PRECISION[dtype]


@dtypes
def test_frames_are_proper_rotations(dtype):
    frames = edge_frames(edges(dtype))
    assert frames.dtype == dtype
    identity = torch.eye(3, dtype=dtype)
    assert largest(frames @ frames.transpose(1, 2) - identity) < PRECISION[dtype]
    assert largest(torch.linalg.det(frames) - 1) < PRECISION[dtype]


def test_length_of_an_edge_does_not_matter():
    vectors = edges()
    assert largest(edge_frames(vectors) - edge_frames(7.3 * vectors)) < 1e-14


def test_frames_have_the_same_bits_on_every_call_and_alone_or_in_a_batch():
    vectors = edges()
    frames = edge_frames(vectors)
    assert torch.equal(frames, edge_frames(vectors.clone()))
    alone = torch.cat([edge_frames(vector.unsqueeze(0)) for vector in vectors])
    assert torch.equal(frames, alone)


def test_first_and_second_derivatives_are_finite_and_bounded_everywhere():
    vectors = edges()
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    weights = randn(2, 3, 3)

    def probe(vector: torch.Tensor) -> torch.Tensor:
        return (edge_frames(vector.unsqueeze(0))[0] * weights).sum()

    for vector in unit:
        gradient = torch.autograd.functional.jacobian(probe, vector)
        hessian = torch.autograd.functional.hessian(probe, vector)
        assert torch.isfinite(gradient).all()
        assert torch.isfinite(hessian).all()
        assert largest(gradient) < 30
        assert largest(hessian) < 100


@pytest.mark.parametrize("pole", [1.0, -1.0])
@pytest.mark.parametrize("azimuth", [0.0, 1.1, math.pi / 2])
def test_derivative_along_a_path_through_a_pole_equals_the_finite_difference(pole, azimuth):
    weights = randn(3, 3, 3)

    def probe(angle: torch.Tensor) -> torch.Tensor:
        sine, cosine = torch.sin(angle), torch.cos(angle)
        direction = (sine * math.cos(azimuth), pole * cosine, sine * math.sin(azimuth))
        return (edge_frames(2.1 * torch.stack(direction).unsqueeze(0))[0] * weights).sum()

    step = 1e-3
    for start in (-0.02, -step / 3, -1e-9, 0.0, 1e-9, step / 3, 0.02):
        angle = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        (derivative,) = torch.autograd.grad(probe(angle), angle)
        near = probe(angle + step) - probe(angle - step)
        far = probe(angle + 2 * step) - probe(angle - 2 * step)
        difference = (8 * near - far) / (12 * step)
        assert abs(float(derivative - difference)) < 1e-10


@pytest.mark.parametrize("pole", [1.0, -1.0])
def test_frames_do_not_jump_across_a_pole(pole):
    for size in (1e-2, 1e-5, 1e-8):
        angles = torch.linspace(-5, 5, 11, dtype=torch.float64) * size
        path = torch.stack((angles.sin(), pole * angles.cos(), 0.3 * angles.sin()), dim=1)
        frames = edge_frames(path)
        assert largest(frames[1:] - frames[:-1]) < 2 * size
