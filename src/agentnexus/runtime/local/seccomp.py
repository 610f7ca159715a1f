"""The system calls an agent may make: an allow-list, compiled once per zygote to raw BPF by libseccomp."""

from __future__ import annotations

import errno
import socket
import tempfile

_ALLOWED = """
accept accept4 access alarm arch_prctl bind brk cachestat capget chdir chmod chown clock_getres clock_gettime
clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve exit exit_group faccessat
faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
fork fstat fstatfs fsync ftruncate futex futex_waitv futex_wait futex_wake futex_requeue getcpu getcwd getdents
getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
getrandom getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area
gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl kill lchown
lgetxattr link linkat listen listxattr llistxattr lseek lstat madvise membarrier mincore mkdir mkdirat mlock mlock2
mmap mprotect mremap msync munlock munmap nanosleep newfstatat open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 poll ppoll pread64 preadv preadv2 prlimit64 pselect6 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recvfrom recvmmsg recvmsg rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_setaffinity sched_yield select sendfile sendmmsg sendmsg sendto
setitimer setpgid setpriority setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address shutdown
sigaltstack signalfd signalfd4 splice stat statfs statx symlink symlinkat sync_file_range sysinfo tee tgkill time
timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid
write writev
"""

_NEW_NAMESPACE_FLAGS = 0x7E02_0000
_ADDRESS_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
# Naming, dumpability, reading seccomp and capability state, timer slack, huge pages, naming of memory: but not
# PR_SET_PDEATHSIG (with it an agent would outlive its sandbox) and nothing that touches privileges.
_PRCTL_OPTIONS = (3, 4, 15, 16, 21, 23, 29, 30, 38, 39, 41, 42, 0x5356_4D41)


def available() -> str:
    """Empty when filters can be compiled here, else what is missing."""
    try:
        import pyseccomp

        pyseccomp.get_api()
    except (ImportError, OSError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return ""


def compile_filter() -> bytes:
    """Everything not allowed answers EPERM; clone3 answers ENOSYS, so that libc falls back to clone."""
    import pyseccomp as library

    rules = library.SyscallFilter(library.ERRNO(errno.EPERM))
    for name in _ALLOWED.split():
        if _known(name):
            rules.add_rule(library.ALLOW, name)
    rules.add_rule(library.ALLOW, "clone", library.Arg(0, library.MASKED_EQ, _NEW_NAMESPACE_FLAGS, 0))
    rules.add_rule(library.ERRNO(errno.ENOSYS), "clone3")
    for family in _ADDRESS_FAMILIES:
        rules.add_rule(library.ALLOW, "socket", library.Arg(0, library.EQ, int(family)))
    rules.add_rule(library.ALLOW, "socketpair", library.Arg(0, library.EQ, int(socket.AF_UNIX)))
    for option in _PRCTL_OPTIONS:
        rules.add_rule(library.ALLOW, "prctl", library.Arg(0, library.EQ, option))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _known(name: str) -> bool:
    """Old calls (open, fork …) do not exist on every processor, new ones not in every libseccomp."""
    import pyseccomp as library

    try:
        return bool(library.resolve_syscall(library.Arch.NATIVE, name) >= 0)
    except (ValueError, OSError):
        return False
