"""The first five minutes, with vectors made elsewhere.

Run it with

    visagedb serve --data ./visagedb-data        # in another terminal
    python examples/quickstart.py
"""

import os

import numpy as np

import visagedb

GALLERY = "quickstart"
DIMENSION = 128


def main() -> None:
    random = np.random.default_rng(seed=7)
    people = {
        name: random.standard_normal(DIMENSION).astype(np.float32)
        for name in ("ada", "grace", "katherine")
    }

    address = os.environ.get("VISAGEDB_ADDRESS", visagedb.DEFAULT_ADDRESS)
    with visagedb.Client(address) as client:
        # A gallery's model is pinned. Any name will do for vectors that you make yourself.
        client.delete_gallery(GALLERY, missing_ok=True)
        client.create_gallery(GALLERY, model="my-model@1", dimension=DIMENSION, threshold=0.5)

        for name, vector in people.items():
            client.enroll(GALLERY, name, vector=vector, labels={"team": "pioneers"})

        # A new picture of a person gives a vector near to the enrolled one.
        seen = people["grace"] + 0.4 * random.standard_normal(DIMENSION).astype(np.float32)
        result = client.identify(GALLERY, vector=seen, filter='labels.team = "pioneers"')
        match = result.match
        assert match is not None
        assert match.id == "grace"
        print(f"identified {match.id} with score {match.score:.3f}")

        stranger = random.standard_normal(DIMENSION).astype(np.float32)
        assert client.identify(GALLERY, vector=stranger).match is None
        print("a stranger is nobody")

        same = client.verify(seen, gallery=GALLERY, identity="grace")
        other = client.verify(seen, gallery=GALLERY, identity="ada")
        print(f"grace: {same.decision}, ada: {other.decision}")
        assert same.is_match
        assert not other.is_match

        client.delete_gallery(GALLERY)


if __name__ == "__main__":
    main()
