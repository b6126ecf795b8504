"""Pictures to try an exported model on."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cace_pyg.data.rendering.pedestrian import draw_family
from cace_pyg.data.rendering.render import VIEWS, render
from cace_pyg.data.rendering.scene import draw_camera


class ProbePictures(NamedTuple):
    """uint8 ``(image, 3, height, width)`` and label maps of body parts, uint8 ``(image, height, width)``."""

    images: Tensor
    part_maps: Tensor

    def select(self, index: slice) -> "ProbePictures":
        """The pictures at ``index``."""
        return ProbePictures(self.images[index], self.part_maps[index])


def rendered_pictures(count: int, size: tuple[int, int]) -> ProbePictures:
    """Pedestrians of one family, as in the built-in data set, the same each time; ``size`` is (height, width)."""
    rng = np.random.default_rng(0)
    people, camera = draw_family(rng, "probe", count), draw_camera(rng, 0)
    drawn = [
        render(person, camera, tuple(VIEWS)[number % len(VIEWS)], "good", False, size, rng)
        for number, person in enumerate(people)
    ]
    images = np.stack([np.asarray(one.picture) for one in drawn])
    return ProbePictures(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([one.parts for one in drawn])),
    )


def noise_pictures(count: int, size: tuple[int, int]) -> ProbePictures:
    """Every pixel and every label drawn alone, the same each time; ``size`` is (height, width)."""
    generator = torch.Generator().manual_seed(0)
    return ProbePictures(
        torch.randint(256, (count, 3, *size), generator=generator, dtype=torch.uint8),
        torch.randint(7, (count, *size), generator=generator, dtype=torch.uint8),
    )
