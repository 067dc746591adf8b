"""The declaration of the settings for a cluster, as in `setting_groups`."""

from dataclasses import dataclass
from pathlib import Path

from wsaas import cluster_setting_types, setting_types
from wsaas.cluster_setting_types import NatsServer
from wsaas.setting_groups import setting
from wsaas.setting_types import PublicName


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The cluster: NATS, the lease, and how the nodes reach each other."""

    cluster: tuple[NatsServer, ...] = setting(
        cluster_setting_types.nats_servers,
        None,
        "NATS servers, which make this node one of a [cluster](cluster.md): `nats://host:4222`, or `tls://` for TLS. "
        "May contain `user:password@` or `token@`. Needs `pip install 'wsaas[cluster]'`",
        unset=(),
    )
    cluster_name: str = setting(
        cluster_setting_types.cluster_name,
        "wsaas",
        "Name of the cluster. Clusters with different names can use the same NATS",
    )
    cluster_credentials: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the JWT and the seed of a NATS user (`.creds`). Read again for each connection to NATS",
        unset=None,
    )
    cluster_tls_ca: Path | None = setting(
        setting_types.pem_path,
        None,
        "PEM file with the certificate authorities for NATS servers, instead of those of the system",
        unset=None,
    )
    cluster_secret: tuple[bytes, ...] = setting(
        cluster_setting_types.cluster_secrets,
        None,
        "Secret that encrypts the `Authorization` values in NATS, the same for all nodes. Without it, they are not "
        "stored there. With several, separated by commas, the first one encrypts",
        unset=(),
        secret=True,
    )
    cluster_secret_file: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the value of `CLUSTER_SECRET`, one secret per line. Reloaded on SIGHUP",
        unset=None,
    )
    cluster_lease: float = setting(
        cluster_setting_types.lease,
        "15000",
        "How long (ms) after its last sign of life a node counts as dead. Rounded up to whole seconds",
    )
    node_address: PublicName | None = setting(
        cluster_setting_types.node_address,
        None,
        "Where the other nodes reach the REST API of this node: `host:port`, with `https://` if it uses TLS. `{port}` "
        "in it is replaced with the port of the REST API. Required with `CLUSTER`",
        unset=None,
    )
    node_tls_ca: Path | None = setting(
        setting_types.pem_path,
        None,
        "PEM file with the certificate authorities for other nodes with `https://`, instead of those of the system",
        unset=None,
    )
