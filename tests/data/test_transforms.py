"""What augmentation may do to a picture."""

import pytest
import torch

from cace_pyg.data.transforms import (
    AugmentationSettings,
    evaluation_transform,
    training_transform,
)

NOTHING = {"flip": 0, "crop_padding": 0, "erasing": 0, "colour_jitter": 0}


def picture() -> torch.Tensor:
    return torch.randint(1, 256, (3, 16, 8), dtype=torch.uint8)


def augmented(**settings):
    return training_transform(AugmentationSettings(**(NOTHING | settings)))


def test_without_augmentation_training_is_evaluation():
    image = picture()
    torch.testing.assert_close(augmented()(image), evaluation_transform()(image))


def test_a_flip_mirrors_left_and_right():
    image = picture()
    torch.testing.assert_close(augmented(flip=1)(image), evaluation_transform()(image.flip(-1)))


def test_a_crop_is_a_window_of_the_bordered_picture():
    image, transform = picture(), augmented(crop_padding=2)
    bordered = evaluation_transform()(torch.nn.functional.pad(image, (2, 2, 2, 2)))
    windows = {(y, x): bordered[:, y : y + 16, x : x + 8] for y in range(5) for x in range(5)}
    seen = set()
    for _ in range(300):
        window = transform(image)
        seen |= {place for place, expected in windows.items() if torch.equal(window, expected)}
    assert len(seen) == 25


def test_erasing_fills_a_rectangle_with_the_mean_colour():
    image = picture()
    before, after = evaluation_transform()(image), augmented(erasing=1)(image)
    erased = (after != before).any(0)
    assert erased.any() and (after[:, erased] == 0).all()
    rows, columns = erased.nonzero().T
    height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
    assert erased.sum() >= 0.9 * height * width  # some pixel may have had the mean colour before


def test_probabilities_are_those_asked_for():
    image, mirrored = picture(), augmented(flip=0.3)
    flips = sum(not torch.equal(mirrored(image), evaluation_transform()(image)) for _ in range(500))
    assert 100 < flips < 200
    defaults = AugmentationSettings()
    assert (defaults.flip, defaults.erasing, defaults.colour_jitter) == (0.5, 0.5, 0)


def test_jitter_changes_colours_only_when_asked():
    image = torch.full((3, 16, 8), 128, dtype=torch.uint8)
    image[0] = 60
    assert not torch.equal(augmented(colour_jitter=0.5)(image), augmented()(image))


def test_the_callers_picture_stays_as_it_is():
    image = picture()
    before = image.clone()
    augmented(flip=1, crop_padding=3, erasing=1, colour_jitter=0.5)(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("name", "value"), [("flip", 1.5), ("erasing", -0.1), ("crop_padding", -1)])
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=rf"augmentation.{name} .*\(got {value}\)"):
        AugmentationSettings(**{name: value})
