# Installs the packages that were put into /var/tmp/soulbox-packages, and what drives them.
cd /var/tmp/soulbox-packages

# What Chromium opens links and finds screens with: a headless one does neither.
mkdir -p none/DEBIAN
cat >none/DEBIAN/control <<CONTROL
Package: soulbox-no-desktop
Version: 1
Architecture: all
Maintainer: SoulBox
Provides: x11-utils, xdg-utils
Description: stands for the desktop that a sandbox does not have
CONTROL
dpkg-deb --build none none.deb

DEBIAN_FRONTEND=noninteractive dpkg --install --path-exclude='/usr/lib/chromium/libVkLayer_*' ./*.deb
cd / && rm -r /var/tmp/soulbox-packages
ln -sf /opt/soulbox-page/page.mjs /usr/local/bin/soulbox-page
echo '<title>ready</title>' >/tmp/ready.html
su user -c 'soulbox-page --dom - /tmp/ready.html' | grep -q '<title>ready</title>'
