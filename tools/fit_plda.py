"""Fits the PLDA model that clustering uses for galleries of an embedder without identities.

    python tools/fit_plda.py --images lfw-devtest/images --write

The photographs lie in one folder per person; of every photograph the face nearest its middle
is embedded as a gallery would store it. The result depends on the photographs and the embedder
only.

The model of the built-in embedder was fitted to LFW's development-test people (Huang et al.,
"Labeled Faces in the Wild", 2007): 3,708 faces of 1,711 people who are in none of LFW's
evaluation pairs.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from compute_centre import embed_people

from visagedb_indexer.clustering import fit
from visagedb_indexer.clustering.fitting import BUILTIN
from visagedb_indexer.faces.pipeline import load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="one folder per person")
    parser.add_argument("--model", default="sface", help="name of the embedder")
    parser.add_argument("--card", type=Path, action="append", default=[], help="further cards")
    parser.add_argument("--output", type=Path, help="the .npz file; default: the built-in one")
    parser.add_argument("--write", action="store_true", help="write the file")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    registry = ModelRegistry(arguments.card)
    card = registry.get(arguments.model)
    names, vectors = embed_people(load_pipeline(registry, card), arguments.images)
    model = fit(vectors, np.asarray(names))
    print(f"{len(names):,} faces of {len(set(names)):,} people")
    print(f"variance between persons: {model.phi[0]:.2f} to {model.phi[-1]:.2f} times within")
    if arguments.write:
        path = arguments.output or BUILTIN / f"{card.name}-{card.identity().version}.npz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.to_bytes())
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
