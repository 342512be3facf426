#!/bin/sh
# run.sh [OPTION...]: everything of `make bench` that compares: a demo of its own
# and the peers on its directory, all workloads, and an end without leftovers,
# also after Ctrl-C. Options go to internal/bench; BENCH_ONLY_US=1 leaves the
# peers out. With the workload "remembered" all of them remember passwords, Dovecot
# in its auth cache, else none does. Needs bin/dirpost, and root for Postfix.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${BENCH_DIR:-/tmp/dirpost-bench}
base=${BENCH_PORT_BASE:-22000}
users=${BENCH_USERS:-5000}
sink=127.0.0.1:$((base + 926))
say() { echo "bench: $*"; }
[ "$(id -u)" = 0 ] || [ -n "${BENCH_ONLY_US:-}" ] || { say "Postfix and Dovecot need root; BENCH_ONLY_US=1 measures Dirpost alone" >&2; exit 1; }

remember=--no-remember
case " $* " in *remembered*)
	remember=
	BENCH_AUTH_CACHE=10M
	export BENCH_AUTH_CACHE
	;;
esac

demo=
stop() {
	trap - EXIT
	trap '' INT TERM HUP
	[ -n "${BENCH_ONLY_US:-}" ] || sh "$top/deploy/bench/peers.sh" stop "$dir/peers"
	if [ -n "$demo" ] && kill "$demo" 2>/dev/null; then
		wait "$demo" || true
	fi
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

mkdir -p "$dir"
chmod 755 "$dir"
rm -rf "$dir/peers"
say "starting the demo with $users people (log: $dir/demo.log)"
# A group of its own: Ctrl-C ends the measuring first, the servers after it.
setsid "$top/bin/dirpost" demo --dir "$dir/demo" --port-base "$base" --users "$users" --fresh $remember --smarthost "$sink" \
	>"$dir/demo.log" 2>&1 </dev/null &
demo=$!
until [ -e "$dir/demo/demo.env" ]; do
	kill -0 "$demo" 2>/dev/null || { tail -n 20 "$dir/demo.log" >&2; exit 1; }
	sleep 0.3
done
. "$dir/demo/demo.env"

say "adding the list load-list@$DIRPOST_DOMAIN"
{
	printf 'dn: cn=load-list,ou=groups,%s\nobjectClass: groupOfNames\nobjectClass: dirpostList\ncn: load-list\nmail: load-list@%s\ndirpostListPolicy: open\n' "$DIRPOST_LDAP_BASE" "$DIRPOST_DOMAIN"
	awk -v n="$users" -v base="$DIRPOST_LDAP_BASE" 'BEGIN { for (i = 1; i <= n; i++) printf "member: uid=u%05d,ou=people,%s\n", i, base }'
} | ldapadd -x -H "$DIRPOST_LDAP_URL" -D "$DIRPOST_LDAP_ADMIN_DN" -w "$DIRPOST_LDAP_ADMIN_PASSWORD" >/dev/null
{
	cat "$dir/demo/demo.env"
	echo "DIRPOST_LIST='load-list@$DIRPOST_DOMAIN'"
	echo "DIRPOST_LIST_MEMBERS='$users'"
} >"$dir/dirpost.env"
set -- -sink "$sink" "$@" "dirpost=$dir/dirpost.env"

if [ -z "${BENCH_ONLY_US:-}" ]; then
	BENCH_SINK="[127.0.0.1]:$((base + 926))" sh "$top/deploy/bench/peers.sh" start "$dir/demo/demo.env" "$dir/peers"
	set -- "$@" "peer=$dir/peers/peers.env"
fi
say "measuring; load of the machine now: $(cut -d' ' -f1-3 /proc/loadavg)"
"$top/.cache/bench" "$@"
say "done; load of the machine now: $(cut -d' ' -f1-3 /proc/loadavg)"
