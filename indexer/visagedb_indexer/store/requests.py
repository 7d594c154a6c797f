"""Answers to writes that carried a request id, kept for a day."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from visagedb_indexer import clock, limits
from visagedb_indexer.errors import NotFoundError, RequestIdReusedError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import Record, RequestRecord, decode, encode, plain


class RequestReader:
    """Looks up earlier answers."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def recall(self, request_id: str, fingerprint: bytes, kind: type[Record]) -> Record | None:
        """The answer given to this request within the last day, or None.

        Raises:
            RequestIdReusedError: The id belonged to a different request.
            NotFoundError: The answer spoke of somebody who has been erased.
        """
        if not request_id:
            return None
        record = self._find(request_id.encode())
        if record is None or record.time_us < _oldest_us(clock.now_us()):
            return None
        if record.fingerprint != fingerprint:
            raise RequestIdReusedError(
                "this request id was used for a different request", {"request_id": request_id}
            )
        if not record.answer:
            raise NotFoundError(
                "what this request has made was erased since", {"request_id": request_id}
            )
        return decode(record.answer, kind)

    def _find(self, key: bytes) -> RequestRecord | None:
        data = self._txn.get(key, db=self._db(schema.REQUESTS))
        return None if data is None else decode(data, RequestRecord)


class RequestWriter(RequestReader):
    """Keeps answers, and forgets old ones."""

    def keep(self, request_id: str, fingerprint: bytes, answer: object, now_us: int) -> None:
        """Keeps the answer to a request, and forgets a few that are too old.

        An empty id keeps nothing.
        """
        if not request_id:
            return
        self._forget_before(_oldest_us(now_us), most=4)
        record = RequestRecord(now_us, fingerprint, encode(answer))
        self._txn.put(request_id.encode(), encode(record), db=self._db(schema.REQUESTS))
        key = schema.request_time_key(now_us, request_id)
        self._txn.put(key, b"", db=self._db(schema.REQUEST_TIMES))

    def tidy(
        self, after: bytes, most: int, now_us: int, speaks_of_erased: Callable[[Any], bool]
    ) -> bytes | None:
        """Blanks the answers that speak of erased people, and forgets those that are too old.

        The ids stay for their day: a repeat of the request must not bring the person back.

        Args:
            after: The id looked at last; empty to begin.
            most: How many to look at.
            now_us: The present time.
            speaks_of_erased: Asked of each answer, in plain maps and lists.

        Returns:
            The id looked at last; None when there are no more.
        """
        self._forget_before(_oldest_us(now_us), most)
        requests = self._db(schema.REQUESTS)
        looked_at, blanked = None, []
        with self._txn.cursor(db=requests) as cursor:
            found = cursor.set_range(after + b"\0" if after else b"\0")
            for _ in range(most):
                if not found:
                    looked_at = None
                    break
                looked_at = bytes(cursor.key())
                record = decode(cursor.value(), RequestRecord)
                if record.answer and speaks_of_erased(plain(record.answer)):
                    blanked.append((looked_at, replace(record, answer=b"")))
                found = cursor.next()
        for key, record in blanked:
            self._txn.put(key, encode(record), db=requests)
        return looked_at

    def _forget_before(self, time_us: int, most: int) -> None:
        with self._txn.cursor(db=self._db(schema.REQUEST_TIMES)) as cursor:
            for _ in range(most):
                if not cursor.first():
                    return
                key = bytes(cursor.key())
                kept_us, request_id = schema.read_u64(key[:8]), key[8:]
                if kept_us >= time_us:
                    return
                cursor.delete()
                # The id may have been used again since.
                record = self._find(request_id)
                if record is not None and record.time_us == kept_us:
                    self._txn.delete(request_id, db=self._db(schema.REQUESTS))


def _oldest_us(now_us: int) -> int:
    return now_us - int(limits.REQUEST_ID_SECONDS_KEPT * 1e6)
