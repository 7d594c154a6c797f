"""Enrol, identify and verify with photographs.

    visagedb serve --data ./visagedb-data        # in another terminal
    python examples/photos.py FOLDER

The folder has a sub-folder of photographs for each person. The first photograph of each
person is enrolled, the last one is looked up.
"""

import os
import sys
from pathlib import Path

import visagedb

GALLERY = "photos-example"


def main(folder: Path) -> None:
    albums = [sorted(person.glob("*.*")) for person in sorted(folder.iterdir()) if person.is_dir()]
    albums = [photos for photos in albums if len(photos) >= 2]
    if not albums:
        sys.exit(f"no person has two photographs in {folder}")

    address = os.environ.get("VISAGEDB_ADDRESS", visagedb.DEFAULT_ADDRESS)
    with visagedb.Client(address) as client:
        client.delete_gallery(GALLERY, missing_ok=True)
        client.create_gallery(GALLERY)

        for photos in albums:
            name = photos[0].parent.name
            try:
                enrolled = client.enroll(
                    GALLERY, name, image=photos[0], face_selection="largest", source=photos[0].name
                )
            except visagedb.NoFaceError as error:
                print(f"{photos[0]}: {error}")
                continue
            detection = enrolled.face.detection if enrolled.face else None
            if detection is not None and detection.quality is not None:
                print(f"enrolled {name}, quality {detection.quality.score:.2f}")

        for photos in albums:
            name, probe = photos[-1].parent.name, photos[-1]
            result = client.identify(GALLERY, image=probe, face_selection="largest", top_k=1)
            found = result.match.id if result.match else "nobody"
            print(f"{probe.name}: {found} {'(right)' if found == name else f'(is {name})'}")

        first, last = albums[0][0], albums[0][-1]
        answer = client.verify(first, last, gallery=GALLERY, face_selection="largest")
        print(f"{first.name} and {last.name}: {answer.decision}, score {answer.score:.3f}")
        client.delete_gallery(GALLERY)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
