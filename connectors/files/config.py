"""The keys that say where files are and how to get at them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runner.secrets import hide, redact

_STORES = {
    "s3": ("endpoint", "region", "allow_http", "access_key_id", "secret_access_key"),
    "gs": ("allow_http", "service_account_key"),
    "az": ("endpoint", "allow_http", "account_name", "account_key", "sas_token"),
}
_STORES |= {"abfs": _STORES["az"], "abfss": _STORES["az"]}
_SFTP = ("user", "password", "private_key", "passphrase", "host_key", "known_hosts")
SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "sftp", "file")
_SECRETS = (
    "secret_access_key",
    "service_account_key",
    "account_key",
    "sas_token",
    "password",
    "private_key",
    "passphrase",
)


class FilesConfig(BaseModel):
    """A folder somewhere; the keys of a store are those of a destination of type filesystem."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        repr=False, description="s3://bucket/folder, gs://…, az://container/folder, sftp://host/folder, or a folder"
    )
    endpoint: str | None = Field(None, description="s3, az: where the store answers, if not at its provider's")
    region: str | None = Field(None, description="s3: the bucket's region")
    allow_http: bool = Field(False, description="talk to an endpoint without TLS")
    access_key_id: str | None = Field(None, repr=False, description="s3: AWS_ACCESS_KEY_ID by default")
    secret_access_key: str | None = Field(None, repr=False, description="s3: AWS_SECRET_ACCESS_KEY by default")
    service_account_key: str | None = Field(
        None, repr=False, description="gs: the JSON of a service account; GOOGLE_SERVICE_ACCOUNT by default"
    )
    account_name: str | None = Field(None, description="az: the storage account; AZURE_STORAGE_ACCOUNT_NAME by default")
    account_key: str | None = Field(None, repr=False, description="az: AZURE_STORAGE_ACCOUNT_KEY by default")
    sas_token: str | None = Field(None, repr=False, description="az: AZURE_STORAGE_SAS_TOKEN by default")
    user: str | None = Field(None, description="sftp: who signs in, if the url does not say it")
    password: str | None = Field(None, repr=False, description="sftp")
    private_key: str | None = Field(None, repr=False, description="sftp: the key itself: ${file:/path/to/key}")
    passphrase: str | None = Field(None, repr=False, description="sftp: of the private key")
    host_key: str | None = Field(None, description="sftp: the server's public key, a line as ssh-keyscan prints it")
    known_hosts: str | Literal[False] | None = Field(
        None, description="sftp: a file of host keys, ~/.ssh/known_hosts by default; false: trust whoever answers"
    )

    @model_validator(mode="after")
    def _fitting(self) -> FilesConfig:
        scheme = self.scheme
        if scheme not in SCHEMES:
            known = ", ".join(f"{one}://" for one in SCHEMES)
            raise ValueError(f"{redact(self.url)} is of no known kind; known are a folder, {known}")
        fitting = _SFTP if scheme == "sftp" else _STORES.get(scheme, ())
        for name in {*FilesConfig.model_fields} & self.model_fields_set - {"url", *fitting}:
            if getattr(self, name) != FilesConfig.model_fields[name].default:
                raise ValueError(f"{'a local folder' if scheme == 'file' else f'{scheme}://'} takes no {name}")
        if self.host_key is not None and self.known_hosts is not None:
            raise ValueError("say either host_key or known_hosts")
        for name in _SECRETS:
            if getattr(self, name):
                hide(getattr(self, name))
        return self

    @property
    def scheme(self) -> str:
        """What kind of place it is; ``file`` for a folder."""
        scheme, sign, _ = self.url.partition("://")
        return scheme.lower() if sign else "file"

    def store_options(self) -> dict[str, Any]:
        """Return what obstore takes."""
        names = (name for name in _STORES.get(self.scheme, ()) if name != "allow_http")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
