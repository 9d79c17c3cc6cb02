#!/bin/busybox sh
# The first process of the virtual machine: prepares it, runs every program in /suites, and turns it off.
# Lines that begin with #MACHINE# are for the one who reads the console.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp /run
mount -t devpts devpts /dev/pts
for place in /dev/shm /tmp /run; do mount -t tmpfs tmpfs "$place"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
while read -r module; do modprobe "$module" || echo "#MACHINE# trouble: module $module"; done </modules
ulimit -n 1048576
ulimit -l unlimited

echo "#MACHINE# kernel $(uname -r)"
dmesg -c >/dev/null
cd /tmp || exit
for suite in /suites/*; do
    name=${suite##*/}
    echo "#MACHINE# begins $name"
    # shellcheck disable=SC2086 # the words are arguments
    "$suite" $(cat "/arguments/$name" 2>/dev/null)
    echo "#MACHINE# ended $name $?"
done
dmesg | grep -E -A 20 'WARNING:|BUG:|Oops|rcu: INFO|hung_task' | sed 's/^/#MACHINE# trouble: /'
echo '#MACHINE# done'
poweroff -f
