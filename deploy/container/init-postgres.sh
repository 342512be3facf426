#!/bin/sh
# The image of PostgreSQL runs this once, when it has made its cluster: the three
# roles of Dirpost and its database. The passwords are those of the password files
# (host:port:database:user:password) that Dirpost itself reads.
set -eu
: "${SECRETS:=/run/secrets}"
export SECRETS

# What psql runs for `…` comes from its standard input: a password is in no argument
# of a program, where others on the host could read it.
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set owner `sed -n 's/^.*://p' "$SECRETS/database_owner"`
\set serve `sed -n 's/^.*://p' "$SECRETS/database_serve"`
create role dirpost login password :'owner';
create role dirpost_serve login password :'serve';
-- For reports: nobody is it before you give it a password.
create role dirpost_read login;
create database dirpost owner dirpost encoding 'UTF8' locale 'C.UTF-8' template template0;
SQL
