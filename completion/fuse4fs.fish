# What fish completes for fuse4fs and mount.fuse4fs. Written by `cargo xtask completion`. Do not edit.

function __fuse4fs_words
    printf '%s\t%s\n' \
        rw 'whether programs may write' \
        ro 'whether programs may write' \
        remount 'changes flags of an existing mount' \
        suid 'flags of the mount' \
        nosuid 'flags of the mount' \
        dev 'flags of the mount' \
        nodev 'flags of the mount' \
        exec 'flags of the mount' \
        noexec 'flags of the mount' \
        symfollow 'flags of the mount' \
        nosymfollow 'flags of the mount' \
        relatime 'when reading changes the access time' \
        strictatime 'when reading changes the access time' \
        noatime 'when reading changes the access time' \
        diratime 'the same for reading directories' \
        nodiratime 'the same for reading directories' \
        lazytime 'access times reach the disk with other changes of the file, by a sync, at the unmount, or after a day' \
        nolazytime 'access times reach the disk with other changes of the file, by a sync, at the unmount, or after a day' \
        sync 'changes are on the disk before they are answered' \
        async 'changes are on the disk before they are answered' \
        dirsync 'changes of directories are on the disk before they are answered' \
        nodirsync 'changes of directories are on the disk before they are answered' \
        context= 'SELinux labels' \
        fscontext= 'SELinux labels' \
        defcontext= 'SELinux labels' \
        rootcontext= 'SELinux labels' \
        allow_other 'accepted' \
        default_permissions 'accepted' \
        noload 'the tree as it is on the disk, without looking at the journal' \
        norecovery 'the tree as it is on the disk, without looking at the journal' \
        sb= 'superblock at N KiB (a backup: 8193, 32768, 131072, ... times the block size in KiB)' \
        errors=continue 'what follows the first damage found' \
        errors=remount-ro 'what follows the first damage found' \
        errors=panic 'what follows the first damage found' \
        minixdf 'whether statfs(2) counts the file system\'s own structures as space' \
        bsddf 'whether statfs(2) counts the file system\'s own structures as space' \
        data=ordered 'what the journal does for contents of files' \
        data=journal 'what the journal does for contents of files' \
        data=writeback 'what the journal does for contents of files' \
        commit= 'seconds between commits, 0 to 2147483' \
        barrier 'the device\'s cache is flushed for a commit' \
        barrier=0 'the device\'s cache is flushed for a commit' \
        barrier=1 'the device\'s cache is flushed for a commit' \
        nobarrier 'the device\'s cache is flushed for a commit' \
        discard 'the device is told which blocks were freed, after the commit that freed them' \
        nodiscard 'the device is told which blocks were freed, after the commit that freed them' \
        auto_da_alloc 'accepted without effect: contents go out as they are written' \
        auto_da_alloc=0 'accepted without effect: contents go out as they are written' \
        auto_da_alloc=1 'accepted without effect: contents go out as they are written' \
        noauto_da_alloc 'accepted without effect: contents go out as they are written' \
        resuid= 'who else may use the reserved blocks' \
        resgid= 'who else may use the reserved blocks' \
        grpid 'whether a new file gets its directory\'s group' \
        bsdgroups 'whether a new file gets its directory\'s group' \
        nogrpid 'whether a new file gets its directory\'s group' \
        sysvgroups 'whether a new file gets its directory\'s group' \
        max_dir_size_kb= 'directories grow no further, in KiB' \
        stripe= 'accepted without effect' \
        user_xattr 'whether these attributes are there' \
        nouser_xattr 'whether these attributes are there' \
        acl 'whether these attributes are there' \
        noacl 'whether these attributes are there' \
        journal_path= 'the external journal' \
        offset= 'where in a regular file the file system lies' \
        sizelimit= 'where in a regular file the file system lies' \
        server=systemd 'who starts the server, without a second choice, and by which socket or program' \
        server=spawn 'who starts the server, without a second choice, and by which socket or program' \
        server_timeout= 'seconds that a silent server is waited for, 1 to 86400' \
        request_timeout= 'seconds without an answer after which the kernel ends the connection (Linux 6.15 and later), up to 15 s late' \
        threads= 'threads that answer requests, up to 32' \
        busy_poll=auto 'microseconds that a reader of /dev/fuse looks for the next request before it sleeps, up to 1000' \
        io_uring=auto 'FUSE over io_uring, which Linux 6.14 and later have if /sys/module/fuse/parameters/enable_uring says Y' \
        io_uring=on 'FUSE over io_uring, which Linux 6.14 and later have if /sys/module/fuse/parameters/enable_uring says Y' \
        io_uring=off 'FUSE over io_uring, which Linux 6.14 and later have if /sys/module/fuse/parameters/enable_uring says Y' \
        writeback_cache=auto 'the kernel collects writes' \
        writeback_cache=on 'the kernel collects writes' \
        writeback_cache=off 'the kernel collects writes' \
        read_ahead_kb= 'KiB that the kernel reads ahead, up to 65536' \
        max_ratio= 'percent of the machine\'s limit for unwritten pages that this mount may use, up to 100' \
        cache_size= 'what the server may keep of the disk\'s metadata while the machine is short of memory, 1M to 768M' \
        cache_max= 'what it may keep else, 1M to 768M' \
        admin_ioctls 'root\'s processes may use ioctls that ext4 ties to CAP_SYS_ADMIN, which a FUSE server cannot see' \
        log_level=error 'how much the server logs' \
        log_level=warn 'how much the server logs' \
        log_level=info 'how much the server logs' \
        log_level=debug 'how much the server logs' \
        log_level=trace 'how much the server logs' \
        log= 'where a server that this program starts writes its log' \
        fakeroot 'nobody\'s permissions are checked' \
        lockfile= 'made for the mount and removed after it, which fails if it is there' \
        flush_interval= 'the same as commit=' \
        max_threads= 'the same as threads=' \
        fuse2fs_debug 'the same as log_level=debug' \
        fuse4fs_debug 'the same as log_level=debug' \
        kernel 'accepted without effect' \
        directio 'accepted without effect' \
        no_default_opts 'accepted without effect' \
        clone_fd 'accepted without effect' \
        timing 'accepted without effect' \
        oom_score_adj= 'accepted without effect'
end

complete -c fuse4fs -c mount.fuse4fs -s o -x -d 'mount options' -a '(__fish_complete_list , __fuse4fs_words)'
complete -c mount.fuse4fs -s f -l fake -d 'everything but the mount'
complete -c mount.fuse4fs -s s -d 'ignore unknown options'
complete -c mount.fuse4fs -s v -l verbose -d 'say what is done'
complete -c mount.fuse4fs -l check -d 'tell whether a server can be reached'
complete -c mount.fuse4fs -s h -l help -d 'help'
complete -c mount.fuse4fs -s V -l version -d 'version'
complete -c fuse4fs -s f -l foreground -d 'stay until it is unmounted'
complete -c fuse4fs -s v -l verbose -d 'say what is done'
complete -c fuse4fs -l all -d 'status: of all mounts'
complete -c fuse4fs -l json -d 'status, check: for programs'
complete -c fuse4fs -l prometheus -d 'status: for a node exporter'
complete -c fuse4fs -s h -l help -d 'help'
complete -c fuse4fs -s V -l version -d 'version'
