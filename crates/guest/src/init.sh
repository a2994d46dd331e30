#!/bin/busybox sh
# Process 1 of a test guest: mounts, modules, then the agent that runs commands for the outside.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
export PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8
/bin/busybox --install -s /bin
ln -sf /usr/bin/dash /bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
while read -r required module parameters; do
    insmod "$module" $parameters 2>/run/insmod && continue
    [ "$required" = optional ] || cat /run/insmod | tee -a /run/missing-modules
done </etc/modules
mount -t configfs configfs /sys/kernel/config 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
hostname -F /etc/hostname
ip link set lo up
mkdir -p /run/agent
# The agent ends when nobody outside listens; it goes on when somebody does again.
while :; do
    /bin/agent
    sleep 0.1
done
