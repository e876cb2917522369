#!/bin/sh
# Installs the commands that are named, where they are missing, from Debian's packages. Says what it
# does; does nothing where all are there.
set -eu
packages=""
for command in "$@"; do
    command -v "$command" >/dev/null && continue
    [ -x "/lib/systemd/$command" ] && continue
    case "$command" in
        cc) packages="$packages gcc g++ libc6-dev" ;;
        java) packages="$packages openjdk-17-jre-headless" ;;
        javac) packages="$packages openjdk-17-jdk-headless" ;;
        mvn) packages="$packages maven" ;;
        aarch64-linux-gnu-gcc) packages="$packages gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
        qemu-aarch64) packages="$packages qemu-user" ;;
        systemd-analyze | journalctl) packages="$packages systemd" ;;
        objdump) packages="$packages binutils" ;;
        rsyslogd) packages="$packages rsyslog rsyslog-kafka" ;;
        *) packages="$packages $command" ;;
    esac
done
[ -z "$packages" ] && exit 0
echo "installing$packages, once" >&2
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >&2
