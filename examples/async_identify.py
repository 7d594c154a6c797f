"""Many searches at once over one connection, with asyncio.

Run it with

    visagedb serve --data ./visagedb-data        # in another terminal
    python examples/async_identify.py
"""

import asyncio
import os
import time

import numpy as np

import visagedb

GALLERY = "async-example"
DIMENSION = 128
PEOPLE = 200
PROBES = 500


async def main() -> None:
    random = np.random.default_rng(seed=11)
    vectors = random.standard_normal((PEOPLE, DIMENSION)).astype(np.float32)
    truth = random.integers(PEOPLE, size=PROBES)
    noise = random.standard_normal((PROBES, DIMENSION)).astype(np.float32)
    probes = vectors[truth] + 0.5 * noise

    address = os.environ.get("VISAGEDB_ADDRESS", visagedb.DEFAULT_ADDRESS)
    async with visagedb.AsyncClient(address) as client:
        await client.delete_gallery(GALLERY, missing_ok=True)
        await client.create_gallery(GALLERY, model="my-model@1", dimension=DIMENSION)

        items = (
            visagedb.EnrollItem(f"person-{number}", vector=vector)
            for number, vector in enumerate(vectors)
        )
        async for outcome in client.enroll_many(GALLERY, items):
            if outcome.error is not None:
                raise outcome.error

        start = time.perf_counter()
        results = await asyncio.gather(
            *(client.identify(GALLERY, vector=probe, top_k=1, threshold=0.5) for probe in probes)
        )
        seconds = time.perf_counter() - start

        right = sum(
            result.match is not None and result.match.id == f"person-{number}"
            for result, number in zip(results, truth, strict=True)
        )
        print(f"{right} of {PROBES} identified, {PROBES / seconds:,.0f} searches per second")
        assert right == PROBES
        await client.delete_gallery(GALLERY)


if __name__ == "__main__":
    asyncio.run(main())
