"""Answers to writes that carried a request id, kept for a day."""

from visagedb_indexer import limits
from visagedb_indexer.errors import RequestIdReusedError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import Record, RequestRecord, decode, encode


class RequestReader:
    """Looks up earlier answers."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def recall(self, request_id: str, fingerprint: bytes, kind: type[Record]) -> Record | None:
        """The answer given to this request before, or None.

        Raises:
            RequestIdReusedError: The id belonged to a different request.
        """
        if not request_id:
            return None
        data = self._txn.get(request_id.encode(), db=self._db(schema.REQUESTS))
        if data is None:
            return None
        record = decode(data, RequestRecord)
        if record.fingerprint != fingerprint:
            raise RequestIdReusedError(
                "this request id was used for a different request", {"request_id": request_id}
            )
        return decode(record.answer, kind)


class RequestWriter(RequestReader):
    """Keeps answers, and forgets old ones."""

    def keep(self, request_id: str, fingerprint: bytes, answer: object, now_us: int) -> None:
        """Keeps the answer to a request, and forgets a few that are too old.

        An empty id keeps nothing.
        """
        if not request_id:
            return
        self._forget_before(now_us - int(limits.REQUEST_ID_SECONDS_KEPT * 1e6), most=4)
        record = RequestRecord(now_us, fingerprint, encode(answer))
        self._txn.put(request_id.encode(), encode(record), db=self._db(schema.REQUESTS))
        key = schema.request_time_key(now_us, request_id)
        self._txn.put(key, b"", db=self._db(schema.REQUEST_TIMES))

    def _forget_before(self, time_us: int, most: int) -> None:
        with self._txn.cursor(db=self._db(schema.REQUEST_TIMES)) as cursor:
            for _ in range(most):
                if not cursor.first():
                    return
                key = bytes(cursor.key())
                if schema.read_u64(key[:8]) >= time_us:
                    return
                cursor.delete()
                self._txn.delete(key[8:], db=self._db(schema.REQUESTS))
