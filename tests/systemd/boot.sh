# Boots Debian roots in systemd-nspawn; sourced by bash after root.sh. What a boot has to say comes by
# the directory that it sees as /out. One such container runs at a time.

# What a root needs to be booted here, and the wish to see what fails.
booted_packages=systemd,systemd-sysv,dbus,mount,util-linux,e2fsprogs,udev,kmod,procps,diffutils

# skip_unless_bootable NAME: says why nothing can be booted here, and ends.
skip_unless_bootable() {
    [ "$(id -u)" = 0 ] || skip "$1" "needs root"
    for tool in systemd-nspawn mmdebstrap losetup mke2fs; do
        command -v $tool >/dev/null || skip "$1" "needs $tool"
    done
    [ -c /dev/fuse ] || skip "$1" "needs /dev/fuse"
}

skip() {
    echo "SKIPPED: $1: $2"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

# prepare_root ROOT INSIDE: has a root run the program INSIDE when it is up, and do no harm to the host.
prepare_root() {
    local root=$1 inside=$2 units=$1/etc/systemd/system unit
    # What is never wanted in a container that shares the host's kernel.
    for unit in systemd-binfmt.service systemd-sysctl.service systemd-random-seed.service \
        systemd-pstore.service systemd-timesyncd.service proc-sys-fs-binfmt_misc.automount \
        proc-sys-fs-binfmt_misc.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
        sys-kernel-config.mount dev-hugepages.mount modprobe@.service kmod-static-nodes.service \
        systemd-modules-load.service systemd-logind.service getty.target console-getty.service \
        systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
        ln -sf /dev/null "$units/$unit"
    done
    : >"$root/etc/machine-id"
    install -m 755 "$inside" "$root/usr/local/bin/inside"
    install -m 644 tests/systemd/*.service "$units/"
    install -d "$units/multi-user.target.wants" "$units/sysinit.target.wants" \
        "$units/systemd-udev-trigger.service.d"
    ln -sf ../inside.service "$units/multi-user.target.wants/"
    ln -sf ../journal.service "$units/sysinit.target.wants/"
    # udev announces our loop devices and leaves everybody else's alone.
    cat >"$units/systemd-udev-trigger.service.d/only.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/bin/sh -c 'exec udevadm trigger --action=add $(sed "s#/dev/#/sys/class/block/#" /etc/devices)'
END
    # A boot that fails ends instead of waiting for root's password.
    printf '[Service]\nType=oneshot\nExecStart=/usr/bin/systemctl --no-block poweroff\n' \
        >"$units/emergency.service"
}

# The container's tmpfiles switch FUSE over io_uring on for the whole machine. Nobody else sees it so:
# they wait for the lock, and it is put back; by the next one who has the lock where this is killed.
switch=/sys/module/fuse/parameters/enable_uring
exec 8<>/run/fuse4fs-test-uring.lock
keep_switch() {
    [ -e $switch ] || return 0
    flock 8
    [ -s /run/fuse4fs-test-uring.lock ] || cat $switch >/run/fuse4fs-test-uring.lock
}
restore_switch() {
    [ -s /run/fuse4fs-test-uring.lock ] || return 0
    cat /run/fuse4fs-test-uring.lock >$switch && : >/run/fuse4fs-test-uring.lock
    flock -u 8
}

loops=() udev=$(mktemp -d) kept=
cleanup() {
    [ -z "$kept" ] || restore_switch
    for loop in "${loops[@]}"; do losetup -d "$loop" || true; done
    rm -rf "$udev"
    for group in /sys/fs/cgroup/unified/payload /sys/fs/cgroup/unified/supervisor; do
        [ ! -d $group ] || find $group -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}
trap cleanup EXIT

# attach IMAGE: makes a loop device, the next line of /etc/devices.
attach() { loops+=("$(losetup -f --show "$1")"); }

# boot ROOT OUT LOG: boots until the root powers off (0) or reboots (133). Nothing is written to the root.
boot() {
    local root=$1 out=$2 log=$3 status=0 loop
    # PID 1 listens to udev only if this file is there when it starts.
    rm -rf "$udev"
    mkdir "$udev"
    touch "$udev/control"
    local binds=(--bind=/dev/fuse --bind=/dev/autofs --bind="$udev:/run/udev" --bind="$out:/out")
    for loop in "${loops[@]}"; do binds+=(--bind="$loop"); done
    printf '%s\n' "${loops[@]}" >"$root/etc/devices"
    keep_switch
    kept=yes
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 \
        timeout -k 10 "${FUSE4FS_BOOT_TIMEOUT:-180}" systemd-nspawn --quiet --boot --register=no \
        --keep-unit --machine="fuse4fs-$$" -D "$root" --volatile=overlay "${binds[@]}" \
        --capability=CAP_NET_ADMIN --system-call-filter=@mount --console=pipe \
        </dev/null >"$log" 2>&1 8>&- || status=$?
    restore_switch
    kept=
    return $status
}

# count NAME OUT: prints the results in OUT with a summary; false if any is bad.
count() {
    local passed failed skipped
    sed "s/^/$1: /" "$2/results"
    passed=$(grep -c '^ok ' "$2/results" || true)
    failed=$(grep -c '^not ok ' "$2/results" || true)
    skipped=$(grep -c '^skipped ' "$2/results" || true)
    if ! grep -qx end "$2/results"; then
        echo "$1: not ok the tests inside ran to their end"
        failed=$((failed + 1))
    fi
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}
