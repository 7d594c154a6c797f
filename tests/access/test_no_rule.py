"""A method that nobody has decided about is refused, whatever it is."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from guarded import first_admin_key
from servers import make_config
from wire import refusal_of

from visagedb_server.access.rules import RULES, Rule, Scope
from visagedb_server.server import Server

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def answer(request: Any, context: grpc.ServicerContext) -> bytes:
    raise AssertionError("a method without a rule was run")


@pytest.mark.parametrize("with_keys", [False, True])
def test_a_method_without_a_rule_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_keys: bool
) -> None:
    key = first_admin_key(tmp_path) if with_keys else ""
    server = Server(make_config(tmp_path))
    handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(answer) for kind in KINDS}
    server._grpc.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Unruled", handlers),)
    )
    server.start()
    metadata = [("authorization", f"Bearer {key}")] if key else None

    def reason(kind: str) -> str:
        with grpc.insecure_channel(server.address) as channel:
            call = getattr(channel, kind)(f"/test.Unruled/{kind}")
            argument = b"" if kind.startswith("unary") else iter([b""])
            with pytest.raises(grpc.RpcError) as refused:
                list(call(argument, metadata=metadata, timeout=10))
            return refusal_of(refused.value).reason

    try:
        assert [reason(kind) for kind in KINDS] == ["NO_ACCESS_RULE"] * len(KINDS)
        # With a rule, but of a kind whose requests nothing looks at.
        for kind in ("unary_stream", "stream_unary"):
            monkeypatch.setitem(RULES, f"/test.Unruled/{kind}", Rule(None, scope=Scope.OWN))
            assert reason(kind) == "NO_ACCESS_RULE"
    finally:
        server.stop(grace=5)
