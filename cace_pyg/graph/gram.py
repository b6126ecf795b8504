"""All products of a batch in one."""

from torch import Tensor


def gram_blocks(left: Tensor, right: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The products of the clues of images ``first`` with those of images ``second``, from one Gram matrix.

    All blocks of a batch are blocks of one (B·n)×(B·n) product: the arithmetic of all B² ordered pairs in a single
    call, which suits an accelerator; for few pairs it is wasteful.

    Args:
        left: ``(image, n, channel)``.
        right: ``(image, n, channel)``.
        first: ``(pair,)`` positions in ``left``.
        second: ``(pair,)`` positions in ``right``.

    Returns:
        ``(pair, n, n)``.
    """
    images, n = left.shape[:2]
    gram = left.flatten(0, 1) @ right.flatten(0, 1).mT
    return gram.view(images, n, images, n)[first, :, second]
