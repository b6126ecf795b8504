"""``python -m cace_pyg.embed`` and ``embed_pictures``: pictures to vectors."""

import os

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from cace_pyg import embed_pictures
from cace_pyg.embed import main as embed
from cace_pyg.engine.extraction import extract_embeddings
from cace_pyg.gallery import Embedder
from cace_pyg.gallery.embed_pictures import embed_each
from tests.random_checkpoint import make_checkpoint


@pytest.fixture
def expected(checkpoint, splits):
    """What evaluation extracts of the gallery's pictures."""
    embedder = Embedder(checkpoint)
    return extract_embeddings(embedder.model, splits.gallery, embedder.config, embedder.device)


@pytest.fixture
def folder(pictures, tmp_path):
    """A picture in each of three folders, and two files that are none."""
    made = tmp_path / "crops"
    for name, source in zip("abc", pictures, strict=False):
        (made / name).mkdir(parents=True)
        (made / name / f"{name}.jpg").write_bytes(source.read_bytes())
    (made / "a" / "broken.jpg").write_bytes(b"no picture")
    (made / "notes.txt").write_text("no picture")
    return made


def parquet(path):
    table = pyarrow.parquet.read_table(path)
    assert table.schema.names == ["path", "embedding"]
    return table["path"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)


def numpy(path):
    lines = path.with_name(f"{path.stem}.names.txt").read_text(encoding="utf-8").splitlines()
    return lines, np.load(path, allow_pickle=False)


READ = {"parquet": parquet, "npy": numpy}


def test_the_vectors_are_those_of_evaluation_and_of_a_gallery(checkpoint, shown_gallery, pictures, expected):
    vectors = embed_pictures(pictures, checkpoint)
    assert vectors.dtype == torch.float32 and vectors.shape == (len(pictures), 16)
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(pictures)))
    rows = {row["image"]: row["embedding"] for row in shown_gallery._table.rows(None, ["image", "embedding"])}
    kept = torch.tensor([list(map(float, rows[str(path)])) for path in pictures])
    torch.testing.assert_close(kept, vectors.half().float(), rtol=0, atol=1e-3)


def test_pictures_may_come_in_any_form(checkpoint, pictures):
    path = pictures[0]
    forms = [path, str(path), path.read_bytes(), Image.open(path), np.asarray(Image.open(path))]
    vectors = embed_pictures(forms, checkpoint)
    assert vectors.shape == (5, 16) and torch.equal(vectors, vectors[:1].expand(5, -1))


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_the_command_writes_them_with_their_names(kind, checkpoint, pictures, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(pictures[0].parent)
    given = [pictures[0].name, *map(str, pictures[1:])]
    output = tmp_path / f"vectors.{kind}"
    assert embed([*given, "--checkpoint", str(checkpoint), "-o", str(output)]) == 0
    names, vectors = READ[kind](output)
    assert names == [str(path) for path in pictures] and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected.numpy(), rtol=0, atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{len(pictures)} vectors of 16 numbers, model {Embedder(checkpoint).fingerprint}: {output}" in printed
    if kind == "parquet":
        told = pyarrow.parquet.read_schema(output).metadata[b"cace_pyg.model"]
        assert told.decode() == Embedder(checkpoint).fingerprint


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_pictures_that_cannot_be_read_are_listed_and_the_others_written(kind, folder, checkpoint, tmp_path, capsys):
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes((folder / "a" / "a.jpg").read_bytes())
    output = tmp_path / f"vectors.{kind}"
    gone = tmp_path / "gone.jpg"
    assert embed([str(folder), str(gone), "--checkpoint", str(checkpoint), "-o", str(output)]) == 1
    names, vectors = READ[kind](output)
    assert names == [str(folder / letter / f"{letter}.jpg") for letter in "abc"]
    torch.testing.assert_close(torch.from_numpy(vectors), embed_pictures(names, checkpoint), rtol=0, atol=1e-6)
    printed = capsys.readouterr().out
    assert "pictures that cannot be read: 3" in printed and "3 vectors" in printed
    assert "broken.jpg: cannot read" in printed and f"{gone}: there is no picture at" in printed
    assert f"{folder}/\\udcff.jpg: its name is not UTF-8" in printed


def test_a_name_with_a_line_break_is_for_parquet_alone(folder, checkpoint, tmp_path, capsys):
    broken = (folder / "a" / "a.jpg").rename(folder / "a" / "a\nb.jpg")
    command = [str(broken), str(folder / "b" / "b.jpg"), "--checkpoint", str(checkpoint), "-o"]
    assert embed([*command, str(tmp_path / "v.npy")]) == 1
    assert "line break" in capsys.readouterr().out
    assert numpy(tmp_path / "v.npy")[0] == [str(folder / "b" / "b.jpg")] and len(numpy(tmp_path / "v.npy")[1]) == 1
    assert embed([*command, str(tmp_path / "v.parquet")]) == 0
    assert parquet(tmp_path / "v.parquet")[0] == command[:2]


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_more_than_are_kept_in_memory(kind, pictures, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("cace_pyg.gallery.vector_file._AT_ONCE", 4)
    some = [str(path) for path in pictures[:9]]
    assert embed([*some, "--checkpoint", str(checkpoint), "-o", str(tmp_path / f"v.{kind}")]) == 0
    names, vectors = READ[kind](tmp_path / f"v.{kind}")
    assert names == some
    np.testing.assert_allclose(vectors, embed_pictures(some, checkpoint).numpy(), rtol=0, atol=1e-6)


def test_at_most_two_batches_are_read_ahead(checkpoint, pictures, monkeypatch):
    read = []
    monkeypatch.setattr(
        "cace_pyg.gallery.embed_pictures.read_picture", lambda picture: read.append(picture) or Image.open(picture)
    )
    embedder = Embedder(checkpoint, overrides=["--evaluation.batch_size=3"])
    each = embed_each(embedder, pictures[:20])
    for done in range(1, 20):
        next(each)
        assert len(read) <= -(-done // 3) * 3 + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FOLDER", "--checkpoint", "CKPT", "-o", "OUT/v.csv"], "ending in .parquet or .npy"),
        (["FOLDER", "--checkpoint", "CKPT", "-o", "OUT/nowhere/v.npy"], "in an existing folder"),
        (["FOLDER", "--checkpoint", "OUT/no.ckpt", "-o", "OUT/v.npy"], "no.ckpt"),
        (["OUT/nowhere", "--checkpoint", "CKPT", "-o", "OUT/v.npy"], "no picture can be read (of 1)"),
        (["FOLDER/notes.txt", "--checkpoint", "CKPT", "-o", "OUT/v.parquet"], "no picture can be read (of 1)"),
        (["OUT/empty", "--checkpoint", "CKPT", "-o", "OUT/v.npy"], "there are no pictures in"),
    ],
)
def test_what_is_refused_leaves_nothing(arguments, message, folder, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "empty").mkdir(parents=True)
    real = {"FOLDER": str(folder), "CKPT": str(checkpoint), "OUT": str(out)}
    for name, path in real.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    assert embed(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(out.iterdir()) == [out / "empty"]


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_what_is_there_stays_where_the_run_fails(kind, pictures, checkpoint, tmp_path, monkeypatch):
    output = tmp_path / f"v.{kind}"
    command = [*map(str, pictures[:4]), "--checkpoint", str(checkpoint), "-o", str(output)]
    assert embed(command) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    forward = Embedder.embeddings

    def fails(embedder, resized):
        forward(embedder, resized)
        raise RuntimeError("the card is on fire")

    monkeypatch.setattr(Embedder, "embeddings", fails)
    assert embed(command) == 2
    monkeypatch.setattr(Embedder, "embeddings", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert embed(command) == 130
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_python_call_says_what_it_cannot_read(checkpoint, folder):
    with pytest.raises(ValueError, match="cannot read the picture .*broken.jpg"):
        embed_pictures([folder / "a" / "a.jpg", folder / "a" / "broken.jpg"], checkpoint)
    with pytest.raises(FileNotFoundError, match="no picture at"):
        embed_pictures([folder / "gone.jpg"], checkpoint)
    for picture in (str(folder / "a" / "a.jpg"), np.zeros((8, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="Expected a list of pictures"):
            embed_pictures(picture, checkpoint)
    with pytest.raises(ValueError, match="at least one picture"):
        embed_pictures([], checkpoint)


def test_a_model_with_a_graph_of_body_parts_has_vectors_too(tiny, tmp_path, splits):
    checkpoint = make_checkpoint(tmp_path / "m.ckpt", tiny, **{"graph": "Semantic", "graph.sharpness": None})
    embedder = Embedder(checkpoint)
    expected = extract_embeddings(embedder.model, splits.gallery[:4], embedder.config, embedder.device)
    found = embed_pictures([sample.path for sample in splits.gallery[:4]], checkpoint)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
