#!/bin/sh
# Installs Portcullis as a systemd service from a directory of built files. The Vagrant
# machine and `cargo xtask vm-test` both use it.
#
#   provision.sh [DIR]
#
# DIR holds bin/portcullisd and bin/portcullis, dist/portcullisd.service and
# dist/portcullisd.yaml, and policies/*.yaml; the default is the script's own directory.
# Files that an administrator may have changed (configuration, policies, secrets) are kept.
set -eu

die() {
    echo "provision: $*" >&2
    exit 1
}

dir=${1:-$(dirname "$0")}
[ "$(id -u)" = 0 ] || die "must run as root"
[ -d /run/systemd/system ] || die "systemd is not running here"
for file in bin/portcullisd bin/portcullis dist/portcullisd.service dist/portcullisd.yaml; do
    [ -f "$dir/$file" ] || die "$dir/$file is missing"
done

install -m 755 "$dir/bin/portcullisd" "$dir/bin/portcullis" /usr/bin/
install -d -m 755 /etc/portcullis /etc/portcullis/policies
install -d -m 700 /etc/portcullis/secrets
[ -e /etc/portcullis/portcullisd.yaml ] ||
    install -m 644 "$dir/dist/portcullisd.yaml" /etc/portcullis/
for policy in "$dir"/policies/*.yaml; do
    [ -e "/etc/portcullis/policies/${policy##*/}" ] ||
        install -m 644 "$policy" /etc/portcullis/policies/
done
install -m 644 "$dir/dist/portcullisd.service" /etc/systemd/system/

portcullisd --check
systemctl daemon-reload
# Not `enable --now`: after an upgrade the new binary must run, and the gate stays shut
# in between.
systemctl enable --quiet portcullisd
systemctl restart portcullisd
portcullis status
