"""What an answer may not ask the Linux kernel for: a filter that no later code in the process can take off.

The numbers are the kernel's own (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
"""

import ctypes
import errno
import platform
import struct
import sys

# name: (x86_64, aarch64); None where the architecture has no such call
_REFUSED = {
    # other programs
    **{"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)},
    **{"setsid": (112, 157), "setpgid": (109, 154), "unshare": (272, 97), "setns": (308, 268)},
    # other processes
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "ptrace": (101, 117)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setaffinity": (203, 122)},
    **{"sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274)},
    **{"migrate_pages": (256, 238), "move_pages": (279, 239), "setrlimit": (160, 164)},
    # other machines, and ways to talk past the end of this process
    **{"socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200)},
    **{"shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    # memory that the limit does not count
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447)},
    # files: what landlock leaves open, and what it would catch as well
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466)},
    **{"truncate": (76, 45), "creat": (85, None), "mknod": (133, None), "mknodat": (259, 33)},
    **{"rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276)},
    **{"link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36)},
    **{"unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "mkdir": (83, None), "mkdirat": (258, 34)},
    **{"openat2": (437, 437), "open_by_handle_at": (304, 265)},
    # the kernel itself
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "mount_setattr": (442, 442)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142)},
    **{"swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170), "clock_settime": (227, 112)},
}
_CLONE, _CLONE3, _PRLIMIT, _OPEN, _OPENAT = (56, 220), (435, 435), (302, 261), (2, None), (257, 56)
_CLONE_THREAD = 0x10000
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, the kernel's AUDIT_ARCH

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO, _UNKNOWN = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


def refuse(writing: bool) -> bool:
    """Filter this process's system calls from now on; False if the system cannot.

    Parameters
    ----------
    writing
        Also refuse to open files for writing. Leave it out where landlock does that, which lets /dev/null through.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    program = _program(*_ARCHITECTURES[platform.machine()], writing)
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    return no_new_privileges() and libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) == 0  # PR_SET_SECCOMP, FILTER


def no_new_privileges() -> bool:
    """Give up what a set-uid program could win; the kernel asks for it before it lets anyone fence itself in."""
    return ctypes.CDLL(None, use_errno=True).prctl(38, 1, 0, 0, 0) == 0


def _program(column: int, architecture: int, writing: bool) -> list[tuple[int, int, int, int]]:
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _NO), (_LOAD, 0, 0, _NUMBER)]
    steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _NO)]  # x32: the same calls under other numbers
    for numbers in _REFUSED.values():
        steps += _if(numbers[column], [(_RETURN, 0, 0, _NO)])
    steps += _if(_CLONE3[column], [(_RETURN, 0, 0, _UNKNOWN)])  # libc then uses clone, whose flags can be read
    steps += _if(_CLONE[column], _unless_bits(0, _CLONE_THREAD))
    steps += _if(_PRLIMIT[column], _if_null(2))
    if writing:
        steps += _if(_OPEN[column], _if_no_bits(1, _WRITING)) + _if(_OPENAT[column], _if_no_bits(2, _WRITING))
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _if(number: int | None, then: list) -> list:
    return [(_EQUAL, 0, len(then), number), *then] if number is not None else []


def _unless_bits(argument: int, bits: int) -> list:
    return [_low(argument), (_ANY_BIT, 1, 0, bits), (_RETURN, 0, 0, _NO), (_RETURN, 0, 0, _ALLOW)]


def _if_no_bits(argument: int, bits: int) -> list:
    return [_low(argument), (_ANY_BIT, 0, 1, bits), (_RETURN, 0, 0, _NO), (_RETURN, 0, 0, _ALLOW)]


def _if_null(argument: int) -> list:
    high = (_LOAD, 0, 0, 16 + 8 * argument + 4)
    return [
        *(_low(argument), (_EQUAL, 0, 2, 0), high, (_EQUAL, 1, 0, 0)),
        *((_RETURN, 0, 0, _NO), (_RETURN, 0, 0, _ALLOW)),
    ]


def _low(argument: int) -> tuple[int, int, int, int]:
    """The lower half of an argument, on the little-endian machines above."""
    return (_LOAD, 0, 0, 16 + 8 * argument)
