"""What became of pictures that were to be added."""

from dataclasses import dataclass

_SHOWN = 20


@dataclass(frozen=True)
class Added:
    """Counts, and what could not be read.

    Attributes:
        added: new images.
        replaced: images whose file, or what is told of it, had changed.
        known: images that were there already.
        unreadable: names of pictures that are not in the gallery, with the reason.
    """

    added: int = 0
    replaced: int = 0
    known: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "Added") -> "Added":
        return Added(
            self.added + other.added,
            self.replaced + other.replaced,
            self.known + other.known,
            self.unreadable + other.unreadable,
        )

    def __str__(self) -> str:
        lines = [
            f"added: {self.added}; replaced, because they had changed: {self.replaced}; there already: {self.known}",
            f"pictures that cannot be read: {len(self.unreadable) or 'none'}",
        ]
        lines += [f"  {name}: {reason}" for name, reason in self.unreadable[:_SHOWN]]
        if len(self.unreadable) > _SHOWN:
            lines.append(f"  and {len(self.unreadable) - _SHOWN} more")
        return "\n".join(lines)
