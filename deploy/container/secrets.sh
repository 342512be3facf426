#!/bin/sh
# secrets.sh: makes what of secrets/ can be made, once, for compose.yaml: the passwords
# of the database and the sealing key. As root, so that the group can be that of the
# image, or GROUP. What is there stays.
set -eu
cd "$(dirname "$0")"
: "${GROUP:=65532}"
umask 077
mkdir -p secrets
random() { head -c 32 /dev/urandom | base64 | tr -d '=' | tr '+/' '-_'; }
make() { # make FILE TEXT
	if [ ! -e "secrets/$1" ]; then printf '%s\n' "$2" >"secrets/$1.new" && mv "secrets/$1.new" "secrets/$1"; fi
}
make database_admin "$(random)"
make database_owner "*:*:*:dirpost:$(random)"
make database_serve "*:*:*:dirpost_serve:$(random)"
make sealing_key "$(head -c 32 /dev/urandom | base64)"
chgrp -R "$GROUP" secrets
chmod 750 secrets
chmod 440 secrets/*
[ -e secrets/directory ] || echo "Missing: secrets/directory, the password of the directory's account; then run this again." >&2
