"""Force encoding of DeNS (DeNS paper, equation 5 and Algorithm 1)."""

from __future__ import annotations

import torch
from e3nn import o3
from torch import nn

from eqv2_plugin.layers.so3_linear import SO3Linear


class ForceEmbedding(nn.Module):
    """Node features from the forces of corrupted atoms, and from the noise level.

    ``SO3Linear(|F| Y(F / |F|))`` with component-normalised harmonics over sqrt(3), so that
    degree 1 is the force itself, in units of ``force_scale``; zero forces, of atoms that are
    not corrupted, give the bias alone, in plain forward passes, too.

    Args:
        lmax: maximum degree.
        channels: C.
        sigma_encoding: add a linear embedding of the noise's standard deviation to degree
            0 (for schedules of sigma).
        force_scale: eV/Å, unit of the forces that are embedded.
    """

    def __init__(
        self, lmax: int, channels: int, sigma_encoding: bool, force_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.force_scale = force_scale
        self.degrees = list(range(lmax + 1))
        self.linear = SO3Linear(1, channels, lmax)
        self.sigma_linear = nn.Linear(1, channels) if sigma_encoding else None

    def forward(self, forces: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Embed the encoded forces.

        Args:
            forces: [N, 3] in eV/Å, zero where no force is encoded.
            sigma: [N] standard deviation in Å of the noise in each atom's structure, zero in
                plain structures.

        Returns:
            [N, (lmax+1)^2, C].
        """
        embedding = self.linear(
            force_harmonics(forces / self.force_scale, self.degrees).unsqueeze(2)
        )
        if self.sigma_linear is None:
            return embedding
        scalars = embedding[:, :1] + self.sigma_linear(sigma.unsqueeze(1)).unsqueeze(1)
        return torch.cat((scalars, embedding[:, 1:]), dim=1)


def force_harmonics(forces: torch.Tensor, degrees: list[int]) -> torch.Tensor:
    """|F| Y(F / |F|) / sqrt(3) of forces [N, 3]: [N, sum of 2l + 1]; degree 1 is the force."""
    size = torch.linalg.vector_norm(forces, dim=1, keepdim=True)
    harmonics = o3.spherical_harmonics(degrees, forces, normalize=True, normalization="component")
    return harmonics * size / 3**0.5
