#!/bin/sh
# peers.sh start DEMO.ENV DIR | stop DIR: Postfix and Dovecot on the directory
# of a running `dirpost demo`, tuned as an expert would (docs/benchmarks.md).
# BENCH_SINK=[HOST]:PORT is where mail to outside goes.
# Writes DIR/peers.env with the same keys as demo.env. Needs root.
set -eu
say() { echo "peers: $*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "Postfix needs root"

stop() {
	dir=$1
	[ -f "$dir/postfix/main.cf" ] && postfix -c "$dir/postfix" stop >/dev/null 2>&1 || true
	[ -f "$dir/dovecot.conf" ] && doveadm -c "$dir/dovecot.conf" stop >/dev/null 2>&1 || true
	rm -f "$dir/peers.env"
}

start() {
	env=$1 dir=$2 format=${3:-maildir}
	. "$env"
	mkdir -p "$dir/postfix" "$dir/queue" "$dir/data" "$dir/run" "$dir/mail"
	chmod 755 "$dir"
	id vmail >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin vmail
	chown vmail: "$dir/mail"
	chown postfix: "$dir/data"
	[ -f "$dir/key.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
		-keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
	ldap=ldap://$DIRPOST_HOST:$DIRPOST_LDAP_PORT
	case $format in
	maildir) location="maildir:$dir/mail/%u" ;;
	sdbox) location="sdbox:$dir/mail/%u" ;;
	*) die "mail format $format: maildir or sdbox" ;;
	esac

	cat >"$dir/dovecot-ldap.conf" <<C
uris = $ldap
dn = $DIRPOST_LDAP_ADMIN_DN
dnpass = $DIRPOST_LDAP_ADMIN_PASSWORD
base = $DIRPOST_LDAP_BASE
auth_bind = yes
pass_filter = (mail=%u)
user_filter = (mail=%u)
user_attrs = =uid=vmail,=gid=vmail
pass_attrs = mail=user
C
	cat >"$dir/dovecot.conf" <<C
base_dir = $dir/run
state_dir = $dir/run
instance_name = bench
log_path = $dir/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <$dir/cert.pem
ssl_key = <$dir/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_cache_size = ${BENCH_AUTH_CACHE:-0}
auth_cache_ttl = 1 hour
mail_location = $location
mail_uid = vmail
mail_gid = vmail
first_valid_uid = 1
mail_fsync = optimized
default_process_limit = 8000
default_client_limit = 10000
default_vsz_limit = 1G
default_login_user = dovenull
default_internal_user = dovecot
mail_max_userip_connections = 10000
passdb {
  driver = ldap
  args = $dir/dovecot-ldap.conf
}
userdb {
  driver = static
  args = uid=vmail gid=vmail home=$dir/mail/%u
}
service imap-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 5000
  inet_listener imap {
    port = 21143
  }
  inet_listener imaps {
    port = 21993
    ssl = yes
  }
}
service pop3-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 5000
  inet_listener pop3 {
    port = 21110
  }
  inet_listener pop3s {
    port = 0
  }
}
service imap {
  service_count = 100
  process_min_avail = 4
  process_limit = 8000
}
service pop3 {
  service_count = 100
  process_limit = 2000
}
service lmtp {
  service_count = 1000
  process_min_avail = 8
  unix_listener bench-lmtp {
    mode = 0666
  }
}
service stats {
  client_limit = 10000
}
service anvil {
  client_limit = 20000
}
protocol imap {
  mail_max_userip_connections = 10000
}
C
	cat >"$dir/mailbox.cf" <<C
server_host = $ldap
version = 3
bind = yes
bind_dn = $DIRPOST_LDAP_ADMIN_DN
bind_pw = $DIRPOST_LDAP_ADMIN_PASSWORD
search_base = $DIRPOST_LDAP_BASE
query_filter = (mail=%s)
result_attribute = mail
domain = $DIRPOST_DOMAIN
C
	postconf -c /etc/postfix -d mail_version >/dev/null
	cat >"$dir/postfix/main.cf" <<C
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
multi_instance_name = postfix-bench
multi_instance_enable = yes
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = peer.$DIRPOST_DOMAIN
mydestination =
mynetworks = 127.0.0.0/8
relayhost = ${BENCH_SINK:-}
maillog_file = $dir/postfix.log
maillog_file_prefixes = $dir
virtual_mailbox_domains = $DIRPOST_DOMAIN
virtual_mailbox_maps = proxy:ldap:$dir/mailbox.cf
virtual_transport = lmtp:unix:$dir/run/bench-lmtp
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
lmtp_destination_concurrency_limit = 20
lmtp_connection_cache_destinations = unix:$dir/run/bench-lmtp
initial_destination_concurrency = 20
default_destination_concurrency_limit = 50
default_process_limit = 200
max_use = 1000
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_host_lookup = native
qmgr_message_active_limit = 40000
message_size_limit = 100000000
virtual_mailbox_limit = 0
smtpd_tls_security_level = may
smtpd_tls_cert_file = $dir/cert.pem
smtpd_tls_key_file = $dir/key.pem
C
	sed -e '/^ *#/d' -e 's/^smtp  *inet .*/127.0.0.1:21025 inet n - n - - smtpd/' /etc/postfix/master.cf.proto 2>/dev/null >"$dir/postfix/master.cf" ||
		sed -e '/^ *#/d' -e 's/^smtp  *inet .*/127.0.0.1:21025 inet n - n - - smtpd/' /usr/share/postfix/master.cf.dist >"$dir/postfix/master.cf"
	# No chroot: fifth column.
	awk 'NF>=8 && $1 !~ /^-/ && $0 !~ /^[ \t]/ {$5="n"} {print}' "$dir/postfix/master.cf" >"$dir/postfix/master.tmp"
	mv "$dir/postfix/master.tmp" "$dir/postfix/master.cf"
	[ -f /etc/postfix/main.cf ] || : >/etc/postfix/main.cf
	[ -f /etc/postfix/dynamicmaps.cf ] && cp /etc/postfix/dynamicmaps.cf "$dir/postfix/"
	[ -d /etc/postfix/dynamicmaps.cf.d ] && cp -r /etc/postfix/dynamicmaps.cf.d "$dir/postfix/" || true
	dovecot -c "$dir/dovecot.conf" >"$dir/dovecot.start" 2>&1 || { cat "$dir/dovecot.start" >&2; die "dovecot does not start"; }
	postfix -c "$dir/postfix" start >/dev/null 2>&1 </dev/null || { tail -5 "$dir/postfix.log" >&2; die "postfix does not start"; }
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -S "$dir/run/bench-lmtp" ] && [ -s "$dir/queue/pid/master.pid" ] && break
		sleep 0.3
	done
	slapd=$(pgrep -P "$DIRPOST_PID" -x slapd || true)
	cat >"$dir/peers.tmp" <<C
DIRPOST_HOST='127.0.0.1'
DIRPOST_SMTP_PORT='21025'
DIRPOST_SUBMISSION_PORT='21025'
DIRPOST_IMAP_PORT='21143'
DIRPOST_IMAPS_PORT='21993'
DIRPOST_POP3_PORT='21110'
DIRPOST_DOMAIN='$DIRPOST_DOMAIN'
DIRPOST_USER_PASSWORD='$DIRPOST_USER_PASSWORD'
DIRPOST_PID='$(tr -d ' ' <"$dir/queue/pid/master.pid") $(cat "$dir/run/master.pid") $slapd'
C
	mv "$dir/peers.tmp" "$dir/peers.env"
	say "Postfix on 21025, Dovecot ($format) on 21143, 21993, 21110; $dir/peers.env"
}

case ${1:-} in
start) shift; start "$@" ;;
stop) stop "$2" ;;
*) sed -n '2,5p' "$0"; exit 2 ;;
esac
