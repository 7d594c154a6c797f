"""Computes a model card's centring vector, and the thresholds of centred vectors.

    python tools/compute_centre.py --images lfw-devtest/images --write

The photographs lie in one folder per person. Of every photograph the face nearest its middle
is embedded, without centring. The centre is the mean of the people's mean embeddings, so that
people with many photographs do not weigh more. Then the centred vectors of different people
are compared, all pairs, and the similarity that each false match rate needs is printed in the
form of the card's table. The result depends on the photographs and the model only.

The built-in card's centre was computed from LFW's development-test people (Huang et al.,
"Labeled Faces in the Wild", 2007): 1,711 people who are in none of LFW's evaluation pairs.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visagedb_indexer.faces import registry as models
from visagedb_indexer.faces.pipeline import FacePipeline, load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import ExtractedFace, Extraction, Vector

BUILTIN = Path(models.__file__).parent / "builtin"
FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4, 1e-5)
BATCH = 8
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def photographs(root: Path) -> Iterator[tuple[str, Path]]:
    """Names of people and their photographs, in a fixed order."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                yield folder.name, path


def central_face(extraction: Extraction) -> ExtractedFace | None:
    """The face whose middle is nearest the photograph's."""

    def distance(face: ExtractedFace) -> float:
        x = face.box.x + (face.box.width - extraction.width) / 2
        y = face.box.y + (face.box.height - extraction.height) / 2
        return x * x + y * y

    return min(extraction.faces, key=distance, default=None)


def embed_people(pipeline: FacePipeline, root: Path) -> tuple[list[str], Vector]:
    """Vectors of all photographs with a face, with the people's names."""
    names: list[str] = []
    vectors: list[Vector] = []
    items = photographs(root)
    while batch := list(itertools.islice(items, BATCH)):
        results = pipeline.extract([path.read_bytes() for _, path in batch])
        for (name, path), result in zip(batch, results, strict=True):
            face = central_face(result) if isinstance(result, Extraction) else None
            if face is None or face.vector is None:
                print(f"no face: {path}")
                continue
            names.append(name)
            vectors.append(face.vector)
    if not vectors:
        raise SystemExit(f"no faces under {root}")
    return names, np.stack(vectors)


def mean_of_people(names: Sequence[str], vectors: Vector) -> Vector:
    """The mean of the people's means."""
    _, person = np.unique(names, return_inverse=True)
    sums = np.zeros((person.max() + 1, vectors.shape[1]))
    np.add.at(sums, person, vectors)
    means = sums / np.bincount(person)[:, None]
    centre: Vector = means.mean(axis=0).astype(np.float32)
    return centre


def centred(vectors: Vector, centre: Vector) -> Vector:
    """Unit vectors after the centre is subtracted."""
    moved = vectors - centre
    result: Vector = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return result


def impostor_thresholds(
    names: Sequence[str], vectors: Vector, rates: Sequence[float]
) -> dict[float, float]:
    """The similarity that so small a share of pairs of different people reaches."""
    people = np.asarray(names)
    scores: NDArray[np.float32] = vectors @ vectors.T
    different = np.triu(people[:, None] != people[None, :], k=1)
    impostors = np.sort(scores[different])[::-1]
    places = [max(0, int(rate * len(impostors)) - 1) for rate in rates]
    print(f"{len(impostors):,} pairs of different people")
    return {rate: float(impostors[place]) for rate, place in zip(rates, places, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="one folder per person")
    parser.add_argument("--model", default="sface", help="name of the embedder")
    parser.add_argument("--card", type=Path, action="append", default=[], help="further cards")
    parser.add_argument("--output", type=Path, help="the .npy file; default: the built-in card's")
    parser.add_argument("--write", action="store_true", help="write the file")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    registry = ModelRegistry(arguments.card)
    plain = dataclasses.replace(registry.get(arguments.model), centre=None)
    names, vectors = embed_people(load_pipeline(registry, plain), arguments.images)
    centre = mean_of_people(names, vectors)
    print(f"{len(names):,} faces of {len(set(names)):,} people")
    print(f"norm of the centre: {np.linalg.norm(centre):.4f}")
    for title, chosen in (("as they are", vectors), ("centred", centred(vectors, centre))):
        print(f"thresholds, {title}:")
        for rate, score in impostor_thresholds(names, chosen, FALSE_MATCH_RATES).items():
            print(f'  "{rate:.0e}" = {score:.4f}')
    if arguments.write:
        path = arguments.output or BUILTIN / f"{arguments.model}-centre.npy"
        np.save(path, centre)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
