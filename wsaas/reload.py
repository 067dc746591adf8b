"""Reloads TLS files and secret files on SIGHUP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from wsaas.errors import SettingError
from wsaas.log import logger
from wsaas.settings import Settings, read_secret
from wsaas.transport.certificates import Certificates

TLS_FILES: Final = ("tls_cert", "tls_key", "control_tls_ca", "api_tls_ca", "cluster_tls_ca", "node_tls_ca")
SECRET_FILES: Final = (
    "control_token_file",
    "api_secret_file",
    "control_aws_keys_file",
    "control_azure_keys_file",
    "cluster_secret_file",
)


class SecretHolder(Protocol):
    """Uses the values of a secret."""

    def replace(self, values: tuple[bytes, ...], /) -> None:
        """Use `values` from now on."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files that are loaded together.

    `shown`: their variables and paths, for the log. `load` puts their content into use. If it fails, it raises
    `SettingError` and changes nothing.
    """

    shown: str
    load: Callable[[], None]


def file_sources(settings: Settings, certificates: Certificates, *holders: SecretHolder | None) -> list[FileSource]:
    """Return the file sources in `settings`.

    `holders`: what uses the content of each of `SECRET_FILES`, None for a secret that is not used.
    """
    sources = []
    if shown := _shown(settings, TLS_FILES):
        sources.append(FileSource(shown, certificates.load))
    for name, holder in zip(SECRET_FILES, holders, strict=True):
        if (shown := _shown(settings, [name])) and holder is not None:
            sources.append(FileSource(shown, partial(_load_secret, settings, name, holder)))
    return sources


def reload(sources: Sequence[FileSource]) -> bool:
    """Reload `sources`, and log the result for each; return whether all could be used."""
    results = [_reload(source) for source in sources]
    if not sources:
        names = ", ".join(name.upper() for name in TLS_FILES + SECRET_FILES)
        logger.info("SIGHUP: nothing to reload, as none of these is set: %s", names)
    return all(results)


def _reload(source: FileSource) -> bool:
    try:
        source.load()
    except SettingError as error:
        logger.error("cannot reload %s; the previous content stays in use", error)
        return False
    logger.info("reloaded: %s", source.shown)
    return True


def _load_secret(settings: Settings, name: str, holder: SecretHolder) -> None:
    holder.replace(read_secret(name, getattr(settings, name)))


def _shown(settings: Settings, names: Sequence[str]) -> str:
    paths = {name.upper(): getattr(settings, name) for name in names}
    return ", ".join(f"{variable}={str(path)!r}" for variable, path in paths.items() if path is not None)
