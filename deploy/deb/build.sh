#!/bin/sh
# build.sh DIRPOST NFPM: makes the Debian packages of the program DIRPOST in dist/,
# with the packager NFPM. The version is VERSION, or made of the last commit.
set -eu
dirpost=$1 nfpm=$2
cd "$(dirname "$0")/../.."
: "${VERSION:=$(git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/' || true)}"
: "${VERSION:=0.0+$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d.%H%M%S).$(git rev-parse --short HEAD)}"
: "${ARCH:=$(go env GOARCH)}"
export VERSION ARCH
stage=dist/stage # as in nfpm.yaml
rm -rf dist/*.deb $stage
trap 'rm -rf $stage' EXIT
# What is packed is the same whoever builds it, and when.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
umask 022
mkdir -p $stage/man $stage/completions $stage/docs
cp "$dirpost" $stage/dirpost
"$dirpost" manual $stage/man
gzip -9n $stage/man/*
"$dirpost" completion bash >$stage/completions/dirpost.bash
"$dirpost" completion zsh >$stage/completions/_dirpost
"$dirpost" completion fish >$stage/completions/dirpost.fish
cp docs/*.md README.md $stage/docs
for package in nfpm nfpm-mta; do
	"$nfpm" package --packager deb --config deploy/deb/$package.yaml --target dist/ >dist/stage/log || { cat dist/stage/log >&2; exit 1; }
done
ls dist/*.deb
