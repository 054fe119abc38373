"""From the machine's configuration and the group's facts to the settings of its PostgreSQL."""

from openmse.node.config import NodeConfig
from openmse.node.direct import direct_path
from openmse.node.drivers.postgres.settings import InstanceSettings, TlsFiles
from openmse.node.group import GroupInfo
from openmse.node.identity import keyring


def instance_settings(config: NodeConfig, group: GroupInfo) -> InstanceSettings:
    """The settings of the group's instance on this node."""
    me, places = config.node.name, config.places
    peer = group.peer_of(me)
    direct = direct_path(config, group)
    files = keyring(config).database
    return InstanceSettings(
        group=group.group,
        node_id=me,
        peer_id=peer.name if peer else "",
        peer_address=peer.address if peer else "",
        peer_direct_address=direct.peer if direct else "",
        data_dir=places.data_dir,
        state_dir=places.state_dir / "postgres",
        socket_dir=places.run_dir / "postgres",
        port=config.database.port,
        tls=TlsFiles(
            server_cert=files / "server.crt",
            server_key=files / "server.key",
            client_cert=files / "replication.crt",
            client_key=files / "replication.key",
            authority=files / "ca.crt",
        ),
        bin_dir=config.database.bin_dir,
        unix_user=config.database.user,
        client_auth=config.database.client_auth.value,
        shared_buffers_mib=config.database.shared_buffers_mib,
        max_connections=config.database.max_connections,
        keep_divergent_days=config.database.keep_divergent_days,
    )
