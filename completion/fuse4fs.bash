# What bash completes for fuse4fs and mount.fuse4fs. Written by `cargo xtask completion`. Do not edit.

# Words of -o; one that ends in = wants a value.
_fuse4fs_words='rw ro remount suid nosuid dev nodev exec noexec symfollow nosymfollow relatime strictatime noatime diratime nodiratime lazytime nolazytime sync async dirsync nodirsync context= fscontext= defcontext= rootcontext= allow_other default_permissions noload norecovery sb= errors= minixdf bsddf data= commit= barrier barrier= nobarrier discard nodiscard auto_da_alloc auto_da_alloc= noauto_da_alloc resuid= resgid= grpid bsdgroups nogrpid sysvgroups max_dir_size_kb= stripe= user_xattr nouser_xattr acl noacl journal_path= offset= sizelimit= server= server_timeout= request_timeout= threads= busy_poll= io_uring= writeback_cache= read_ahead_kb= max_ratio= cache_size= cache_max= admin_ioctls log_level= log= fakeroot lockfile= flush_interval= max_threads= fuse2fs_debug fuse4fs_debug kernel directio no_default_opts clone_fd timing oom_score_adj='

# What may follow an option, one word each.
_fuse4fs_values() {
    case $1 in
    errors) echo 'continue remount-ro panic' ;;
    data) echo 'ordered journal writeback' ;;
    barrier) echo '0 1' ;;
    auto_da_alloc) echo '0 1' ;;
    server) echo 'systemd spawn' ;;
    busy_poll) echo 'auto' ;;
    io_uring) echo 'auto on off' ;;
    writeback_cache) echo 'auto on off' ;;
    log_level) echo 'error warn info debug trace' ;;
    esac
}

_fuse4fs() {
    local line=${COMP_LINE:0:COMP_POINT}
    local current=${line##* } before=${line% *} words
    COMPREPLY=()
    case $before in
    *\ -o | *\ --options) ;;
    *)
        if [[ $current == -* ]]; then
            case ${COMP_WORDS[0]} in
            *mount.fuse4fs) words='-f --fake -s -v --verbose --check -h --help -V --version -o' ;;
            *) words='-f --foreground -v --verbose --all --json --prometheus -h --help -V --version -o' ;;
            esac
            mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        fi
        return
        ;;
    esac
    # The last word of the list, and what stands before it.
    local word=${current##*,}
    local list=${current%"$word"} name=${word%%=*}
    compopt -o nospace
    case $word in
    journal_path=* | log=* | lockfile=*) words=$(compgen -f -P "$name=" -- "${word#*=}") ;;
    *=*) words=$(compgen -P "$name=" -W "$(_fuse4fs_values "$name")" -- "${word#*=}") ;;
    *) words=$(compgen -W "$_fuse4fs_words" -- "$word") ;;
    esac
    [ -n "$words" ] || return
    mapfile -t COMPREPLY <<<"$words"
    COMPREPLY=("${COMPREPLY[@]/#/$list}")
    # Readline replaces what stands behind the last =, if that parts words.
    local parted=${current%"${current##*=}"}
    [[ $COMP_WORDBREAKS != *=* ]] || COMPREPLY=("${COMPREPLY[@]#"$parted"}")
}

complete -o default -F _fuse4fs fuse4fs mount.fuse4fs
