"""``python -m cace_pyg.embed``: write the embeddings of pictures to a file."""

import argparse
import sys

from cace_pyg.data.sorted_pictures import sorted_pictures
from cace_pyg.gallery.embed_pictures import embed_each
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.new_picture import image_name
from cace_pyg.gallery.vector_file import names_path, vector_file
from cace_pyg.progress import progress_bar
from cace_pyg.user_path import user_path

DESCRIPTION = """Write the individual embedding of each picture, a vector of unit length, for your own programs.

  python -m cace_pyg.embed FOLDER --checkpoint RUN_DIR/checkpoints/best.ckpt -o vectors.parquet
  python -m cace_pyg.embed A.jpg B.jpg --checkpoint RUN_DIR/checkpoints/best.ckpt -o vectors.npy

vectors.parquet has the columns path (absolute) and embedding, and needs pyarrow: pip install 'cace-pyg[parquet]'.
vectors.npy is an array (picture, embedding) of float32; vectors.names.txt has the path of each row, one per line.
In Python: cace_pyg.embed_pictures(pictures, checkpoint).
Exit status 0: all is well; 1: some pictures could not be read; 2: nothing was written."""
_SHOWN = 20  # unreadable pictures to list


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known = parser.parse_args(arguments)
    try:
        return _embed(known)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m cace_pyg.embed", description=DESCRIPTION, formatter_class=kind)
    parser.add_argument("pictures", type=user_path, nargs="+", help="files, or folders with their subfolders")
    parser.add_argument(
        "--checkpoint", required=True, type=user_path, help="RUN_DIR/checkpoints/best.ckpt, or a bundle"
    )
    parser.add_argument("-o", "--output", required=True, type=user_path, help="vectors.parquet or vectors.npy")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    return parser


def _embed(known: argparse.Namespace) -> int:
    pictures = [file for path in known.pictures for file in (sorted_pictures(path) if path.is_dir() else [path])]
    embedder = Embedder(known.checkpoint, known.device)
    embedder.expect_unstandardised("embed")
    channels, unreadable = embedder.embedding_channels, []
    with vector_file(known.output, channels, embedder.fingerprint) as write:
        each = progress_bar(embed_each(embedder, pictures), desc="embed", unit="picture", total=len(pictures))
        for picture, found in zip(pictures, each, strict=True):
            name = image_name(picture)
            try:
                if isinstance(found, Exception):
                    raise ValueError(str(found))
                write(name, found)
            except ValueError as error:
                unreadable.append(f"{name.encode(errors='backslashreplace').decode()}: {error}")
        if len(unreadable) == len(pictures):
            raise ValueError(f"no picture can be read (of {len(pictures)}): {unreadable[0]}")
    print(f"pictures that cannot be read: {len(unreadable) or 'none'}")
    for line in unreadable[:_SHOWN]:
        print(f"  {line}")
    if len(unreadable) > _SHOWN:
        print(f"  and {len(unreadable) - _SHOWN} more")
    files = [known.output, names_path(known.output)] if known.output.suffix.lower() == ".npy" else [known.output]
    count = len(pictures) - len(unreadable)
    print(f"{count} vectors of {channels} numbers, model {embedder.fingerprint}: {' and '.join(map(str, files))}")
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
