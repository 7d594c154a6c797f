"""Calibrations in the database of a gallery."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from visagedb_indexer.calibration.values import Calibration
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import decode, encode


class CalibrationReader:
    """Reads calibrations in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def find(self, version: int) -> Calibration | None:
        """A calibration by version, or None."""
        data = self._txn.get(schema.u32(version), db=self._db(schema.CALIBRATIONS))
        return None if data is None else decode(data, Calibration)

    def latest(self) -> Calibration | None:
        """The newest calibration, or None."""
        with self._txn.cursor(db=self._db(schema.CALIBRATIONS)) as cursor:
            return decode(cursor.value(), Calibration) if cursor.last() else None

    def label_values(self, key: str) -> Iterator[tuple[str, int]]:
        """Value and identity number of every label of a key, by value."""
        prefix = schema.label_prefix(key)
        with self._txn.cursor(db=self._db(schema.LABELS)) as cursor:
            found = cursor.set_range(prefix)
            while found:
                raw = bytes(cursor.key())
                if raw[: len(prefix)] != prefix:
                    return
                yield raw[len(prefix) : -5].decode(), schema.read_u32(raw[-4:])
                found = cursor.next()


class CalibrationWriter(CalibrationReader):
    """Writes calibrations in one write transaction."""

    def add(self, calibration: Calibration, kept_most: int) -> Calibration:
        """Keeps a calibration as the newest version, and forgets the oldest beyond a number."""
        newest = self.latest()
        version = 1 if newest is None else newest.version + 1
        calibration = replace(calibration, version=version)
        db = self._db(schema.CALIBRATIONS)
        self._txn.put(schema.u32(version), encode(calibration), db=db)
        with self._txn.cursor(db=db) as cursor:
            while cursor.first() and schema.read_u32(bytes(cursor.key())) + kept_most <= version:
                cursor.delete()
        return calibration

    def forget_people(self, exists: Callable[[str], bool]) -> None:
        """Takes pairs out of all calibrations whose identities, by id, do not exist any more."""
        db = self._db(schema.CALIBRATIONS)
        with self._txn.cursor(db=db) as cursor:
            kept = [(bytes(key), decode(data, Calibration)) for key, data in cursor.iternext()]
        for key, calibration in kept:
            pairs = calibration.suspected
            left = tuple(pair for pair in pairs if exists(pair.first) and exists(pair.second))
            if len(left) < len(pairs):
                self._txn.put(key, encode(replace(calibration, suspected=left)), db=db)
