#!/bin/sh
# own-network.sh COMMAND [ARG...]
#
# Runs a command in a network of its own, in which an ordinary user may listen on
# any port: it has nothing but the loopback addresses. So the tests with a domain
# controller, whose ports (88, 389, 636) cannot be chosen, run without root:
#
#	go test -exec "$PWD/deploy/own-network.sh" ./directory/ldap
#
# `make test` does it by itself. It needs user namespaces for ordinary users (see
# unshare(1)), as Debian allows them; where they are not allowed it fails at once.
set -eu
[ "$#" -gt 0 ] || { echo "usage: $0 COMMAND [ARG...]" >&2; exit 2; }
own_uid=$(id -u) own_gid=$(id -g)
export own_uid own_gid
exec unshare --user --map-root-user --net -- /bin/sh -eu -c '
python3 -c "
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack(\"16sH14x\", b\"lo\", 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
"
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
uid=$own_uid gid=$own_gid
unset own_uid own_gid
# Back to who we are: Postgres refuses root, also one that is none.
exec unshare --user --map-user="$uid" --map-group="$gid" -- "$@"
' own-network.sh "$@"
