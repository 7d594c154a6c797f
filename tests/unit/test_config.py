from pathlib import Path

import pytest

from visagedb_server import DEFAULT_PORT
from visagedb_server.config import ConfigError, ServerConfig


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "PORT", "HOST", "THREADS", "WORKERS", "INSECURE", "MODELS"):
        monkeypatch.delenv(f"VISAGEDB_{name}", raising=False)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "visagedb.toml"
    path.write_text('data = "/from/file"\nport = 1\nthreads = 3\nlog_level = "debug"\n')
    return path


def test_a_flag_beats_the_environment_which_beats_the_file(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISAGEDB_PORT", "2")
    monkeypatch.setenv("VISAGEDB_THREADS", "4")
    config = ServerConfig.load(toml, port=5)
    assert (config.port, config.threads, config.log_level) == (5, 4, "debug")
    assert config.data == Path("/from/file")
    assert config.drain_seconds == 30.0


def test_a_flag_that_was_not_given_hides_nothing(toml: Path) -> None:
    assert ServerConfig.load(toml, port=None).port == 1
    assert ServerConfig.load(data="x").port == DEFAULT_PORT


def test_every_fault_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load(port=70000, threads=0, host="nowhere", log_level="loud", colour="red")
    for name in ("data", "port", "threads", "host", "log_level", "colour"):
        assert f"{name}: " in str(caught.value)


@pytest.mark.parametrize("text", ["port = ", "[[[", "\0"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        ServerConfig.load(path, data="x")


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text('dta = "x"\n')
    with pytest.raises(ConfigError, match=r"dta: there is no such setting; known are data, host"):
        ServerConfig.load(path, data="x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        ServerConfig.load(tmp_path / "missing.toml", data="x")


def test_a_list_in_the_environment_is_written_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAGEDB_MODELS", "one.toml:folder/two.toml")
    assert ServerConfig.load(data="x").models == (Path("one.toml"), Path("folder/two.toml"))
    monkeypatch.setenv("VISAGEDB_MODELS", "")
    assert ServerConfig.load(data="x").models == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "2001:db8::1"])  # noqa: S104
def test_other_machines_are_kept_out_unless_asked_for(host: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        ServerConfig.load(data="x", host=host)
    assert not ServerConfig.load(data="x", host=host, insecure=True).loopback


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:7"), ("localhost", "localhost:7"), ("::1", "[::1]:7")],
)
def test_loopback_needs_no_flag(host: str, address: str) -> None:
    config = ServerConfig.load(data="x", host=host, port=7)
    assert config.loopback
    assert config.bind_address == address


def test_waiting_requests_cannot_be_fewer_than_threads() -> None:
    with pytest.raises(ConfigError, match="requests_max"):
        ServerConfig.load(data="x", threads=10, requests_max=5)
