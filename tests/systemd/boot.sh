#!/bin/sh
# Runs systemd as the first process of namespaces of its own, on a root file system of its own: a tmpfs at $1, in which
# only /usr, and the folders from $3 on, are those of the machine, and cannot be written.
#
# Usage: unshare --mount --pid --ipc --uts --cgroup --fork --kill-child boot.sh ROOT FILES PYTHON PACKAGES WSAAS
#
# FILES: a folder whose content becomes a part of the root.
# No unit of the distribution is in the search path but those of the journal: some would change the machine, such as
# by emptying /tmp or setting sysctls.
set -eu
if [ $$ != 1 ]; then
    echo "boot.sh has to be the first process of namespaces of its own: it changes mounts" >&2
    exit 1
fi
root=$1 files=$2 python=$3 packages=$4 wsaas=$5

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root/new"
cd "$root/new"
mkdir -p usr etc proc sys dev run tmp var/lib var/log root opt/python opt/wsaas/lib opt/wsaas/bin opt/wsaas/package/wsaas old
for folder in bin sbin lib lib64; do
    [ -e "/$folder" ] && ln -s "usr/$folder" "$folder"
done
read_only() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
read_only /usr usr
read_only "$python" opt/python
read_only "$packages" opt/wsaas/lib
read_only "$wsaas" opt/wsaas/package/wsaas
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
    mount --bind proc/sysrq-trigger proc/sysrq-trigger
    mount -o remount,bind,ro proc/sysrq-trigger
fi
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
cp -r "$files/." .
pivot_root . old
umount -l /old
rmdir /old
exec env -i PATH=/usr/sbin:/usr/bin container=test SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /usr/lib/systemd/systemd --system --log-target=journal --log-level=info --show-status=no
