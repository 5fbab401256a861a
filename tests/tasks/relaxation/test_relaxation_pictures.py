"""Pictures show what happened."""

from __future__ import annotations

import dataclasses
import io

import matplotlib.image
import numpy as np
import pytest
from relaxation_inputs import SHORT, emt, surface, surfaces

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.tasks.relaxation.pictures import curves, overview, views


@pytest.fixture(scope="module")
def relaxed() -> Relaxed:
    return next(relax_many(surfaces(1), emt, SHORT, batch=BatchLimit(structures=1)))


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")


def halves(png: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The last two of four panels (from the side), without their titles."""
    picture = pixels(png)[60:]
    width = picture.shape[1] // 4
    return picture[:, 2 * width : 3 * width], picture[:, 3 * width :]


def test_an_atom_that_moved_is_seen_and_its_periodic_image_is_not():
    before, after = surface(0), surface(0)
    still = views(before, before)
    after.positions[-1] += [1.0, 0.5, 1.0]
    assert views(before, after) != still
    elsewhere = before.copy()
    elsewhere.positions[0] += 2 * before.cell[0] - before.cell[1]
    np.testing.assert_allclose(pixels(views(elsewhere, elsewhere)), pixels(still), atol=0.02)


def test_before_and_after_are_drawn_to_one_scale():
    before, after = surface(0), surface(0)
    after.positions[-1] += [0.0, 0.0, 5.0]  # drawn alone it would take more room
    first, second = halves(views(before, after))
    assert abs((first < 0.99).sum() - (second < 0.99).sum()) < 0.1 * (first < 0.99).sum()


def test_curves_are_drawn_from_first_to_last_step(relaxed):
    picture = curves(relaxed, 0.02)
    assert pixels(picture).shape[:2] > (200, 600)
    other = dataclasses.replace(relaxed, energies=relaxed.energies[::-1].copy())
    assert curves(other, 0.02) != picture
    assert curves(relaxed) != picture  # without the line at fmax
    one = dataclasses.replace(relaxed, energies=np.array([1.0]), fmax=np.array([0.0]))
    assert pixels(curves(one, 0.02)).ndim == 3


def test_the_overview_has_energies_only_where_dft_knows_them():
    ends = [(3, 0.1), (12, 0.01), (0, 0.0)]
    with_energies = pixels(overview(ends, [(1.0, 1.2), (-2.0, -2.1)]))
    without = pixels(overview(ends, []))
    assert with_energies.shape[1] > 1.3 * without.shape[1]
