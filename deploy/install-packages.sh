#!/bin/sh
# install-packages.sh LIST...
#
# Installs what is missing of the Debian packages named in deploy/packages-LIST.txt,
# and prints one line that says what. It starts no daemon: whatever the packages
# bring stays stopped, and no default database cluster or directory is made. With
# nothing missing it changes nothing and prints nothing. Not root: it uses sudo.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
names=$(for list in "$@"; do sed 's/#.*//' "$here/packages-$list.txt"; done | tr -s ' \n' '\n' | sort -u | grep . || true)

# Another system: we do not know its packages, but we know the programs.
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	PATH=$PATH:/usr/sbin:/sbin:/usr/libexec:/usr/lib/openldap
	missing=
	for n in $names; do
		case $n in
		postgresql) command -v postgres >/dev/null || ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin >/dev/null 2>&1 || missing="$missing the PostgreSQL server (15 or newer),";;
		slapd) command -v slapd >/dev/null || missing="$missing the OpenLDAP server slapd with back_mdb and syncprov,";;
		ldap-utils) command -v ldapmodify >/dev/null || missing="$missing the OpenLDAP tools (ldapmodify),";;
		isync) command -v mbsync >/dev/null || missing="$missing mbsync (isync),";;
		samba-ad-*|samba-dsdb-modules) command -v samba-tool >/dev/null && command -v samba_spnupdate >/dev/null || missing="$missing Samba as a domain controller ($n),";;
		ldb-tools) command -v ldbadd >/dev/null || missing="$missing the tools of ldb (ldbadd),";;
		*) command -v "$n" >/dev/null || missing="$missing $n,";;
		esac
	done
	[ -z "$missing" ] && exit 0
	echo "This is not Debian. Please install with the system's own tools:${missing%,}. Then run the command again." >&2
	exit 1
fi

missing=
for n in $names; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$n" 2>/dev/null)" = installed ] || missing="$missing $n"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "Missing Debian packages:$missing. Run as root: $0 $*" >&2
		exit 1
	fi
	exec sudo "$0" "$@"
fi

echo "Installing Debian packages:$missing (with apt-get; no daemon is started)"

# While packages are installed, policy-rc.d forbids them to start daemons. One
# that was there before comes back in the end, also after an interrupted run.
policy=/usr/sbin/policy-rc.d saved=/usr/sbin/policy-rc.d.before-dirpost
cluster=/etc/postgresql-common/createcluster.d/dirpost-install.conf
restore() {
	if [ -e "$saved" ]; then mv -f "$saved" "$policy"; else rm -f "$policy"; fi
	rm -f "$cluster"
}
if [ -e "$saved" ]; then mv -f "$saved" "$policy"; fi
if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"
mkdir -p "${cluster%/*}"
echo 'create_main_cluster = false' >"$cluster"
case " $missing " in
*' slapd '*) echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections 2>/dev/null || true ;;
esac

log=$(mktemp)
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1
}
# shellcheck disable=SC2086 # the names are words
if ! apt install --no-install-recommends $missing; then
	apt update || { cat "$log" >&2; echo "apt-get update failed: is a package mirror reachable?" >&2; exit 1; }
	apt install --no-install-recommends $missing || { cat "$log" >&2; echo "apt-get could not install:$missing" >&2; exit 1; }
fi
rm -f "$log"
