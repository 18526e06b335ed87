# Turns a bare Debian into the base template. mmdebstrap runs it with the root as $1, after every
# package is configured; /dev, /proc and /sys are mounted in the root at that time.
set -eu
root=$1

# User `user`, passwordless and sudoer, as E2B clients expect it.
chroot "$root" useradd --uid 1000 --user-group --create-home --shell /bin/bash --groups sudo user
chroot "$root" usermod --shell /bin/bash root
chroot "$root" passwd --delete root >/dev/null
chroot "$root" passwd --delete user >/dev/null
for bashrc in "$root/root/.bashrc" "$root/home/user/.bashrc" "$root/etc/skel/.bashrc"; do
    printf '\nPS1='\''\\w \\$ '\''\n' >>"$bashrc"
done

# Anybody may install into /usr/local; pip and npm install there.
chmod -R 0777 "$root/usr/local"
install -d -m 0777 "$root/code"

echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"
echo Etc/UTC >"$root/etc/timezone"
ln -sfn /proc/mounts "$root/etc/mtab"

# Services do not start by themselves: there is no init that could supervise them.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"

# What the build needed and a sandbox does not.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/var/lib/dbus/machine-id"
rm -rf "$root/usr/share/doc-base" "$root/usr/share/lintian" "$root/usr/share/bug"
rm -rf "$root"/var/log/* "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/etc/*-
install -d -m 1777 "$root/tmp" "$root/var/tmp"
