"""What open-iscsi makes records from: the host's own iscsid.conf with p2vd's values in it. Pure.

iscsiadm copies iscsid.conf into every record that it makes (usr/idbm.c: idbm_node_setup_from_conf)
and takes the credentials of a discovery from it. Its other way, `--op update --value SECRET`, would
show a secret to every user by /proc/PID/cmdline. So p2vd lets iscsiadm see, in the mount namespace
of its own unit alone, a copy of iscsid.conf that holds the secret; the records, mode 0600, are
iscsiadm's own work.

Timeouts are for multipath (open-iscsi's README, 8.1): errors shall go up soon, to the next path.
"""

from p2vd.model.portal import Chap, Secret

_SETTINGS = {
    # The host's open-iscsi.service logs in again at boot, in the order other storage relies on.
    "node.startup": "automatic",
    # Every path, not the first that answers; one session for each; each sees its LUNs; never given up.
    "node.leading_login": "No",
    "node.session.nr_sessions": "1",
    "node.session.scan": "auto",
    "node.session.reopen_max": "0",
    # README 8.1.4: "5 to 15 seconds". The longer one: it counts where a LUN has no map. For the paths
    # of a map multipathd sets its fast_io_fail_tmo, 5 s unless configured (libmultipath/discovery.c).
    "node.session.timeo.replacement_timeout": "15",
    # A dead path is noticed within 10 s: the defaults of iscsid.conf.
    "node.conn[0].timeo.noop_out_interval": "5",
    "node.conn[0].timeo.noop_out_timeout": "5",
    # How long one login may take: 2 x 15 s, not the default's 8 x 15 s. p2vd tries again by itself, and
    # a portal that is down at boot would hold up what waits for remote-fs.target for so long.
    "node.conn[0].timeo.login_timeout": "15",
    "node.session.initial_login_retry_max": "2",
    "discovery.sendtargets.timeo.login_timeout": "15",
    "discovery.sendtargets.reopen_max": "0",
}

_NODE_AUTH = "node.session.auth."
_DISCOVERY_AUTH = "discovery.sendtargets.auth."
_ALGORITHMS = f"{_NODE_AUTH}chap_algs"


def private_conf(host_conf: str, chap: Chap | None) -> str:
    """Return `host_conf` with p2vd's settings and, where there are any, the credentials of `chap`.

    Without `chap` the host's own credentials stay in force. With it none of the host's is left: an
    empty value cannot take one back, because open-iscsi passes over lines without a value.
    """
    settings = dict(_SETTINGS)
    dropped: tuple[str, ...] = ()
    if chap is not None:
        settings |= _auth(_NODE_AUTH, chap)
        dropped = (_NODE_AUTH, _DISCOVERY_AUTH)
        if chap.discovery:
            settings |= _auth(_DISCOVERY_AUTH, chap)
    kept = [line for line in host_conf.splitlines() if not _is_replaced(line, settings, dropped)]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in settings.items()), ""])


def _auth(prefix: str, chap: Chap) -> dict[str, str]:
    values = {"authmethod": "CHAP", "username": chap.user, "password": chap.secret.reveal()}
    if isinstance(chap.secret_in, Secret):
        values |= {"username_in": chap.user_in, "password_in": chap.secret_in.reveal()}
    return {prefix + name: value for name, value in values.items()}


def _is_replaced(line: str, settings: dict[str, str], dropped: tuple[str, ...]) -> bool:
    name = line.partition("=")[0].strip()
    return name in settings or (name.startswith(dropped) and name != _ALGORITHMS if dropped else False)
