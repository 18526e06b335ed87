# Calls that no program in a sandbox has a use for, by number, with arguments that would succeed or fail late.
context = ctypes.c_ulong()
DOORS = {
    "bpf": (321, 5, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0), "userfaultfd": (323, 1),
    "io_uring_setup": (425, 1, 0), "io_uring_enter": (426, 0, 0, 0, 0, 0), "io_uring_register": (427, 0, 0, 0, 0),
    "io_setup": (206, 1, ctypes.byref(context)), "io_submit": (209, 0, 0, 0), "kexec_load": (246, 0, 0, 0, 0), "kexec_file_load": (320, 0, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0), "finit_module": (313, 0, 0, 0), "delete_module": (176, 0, 0), "create_module": (174, 0, 0),
    "quotactl": (179, 0, 0, 0, 0), "quotactl_fd": (443, 0, 0, 0, 0), "swapon": (167, b"/x", 0), "swapoff": (168, b"/x"),
    "lookup_dcookie": (212, 0, 0, 0), "vmsplice": (278, 1, 0, 0, 0), "acct": (163, b"/tmp/a"), "reboot": (169, 0xfee1dead, 672274793, 0, 0),
    "syslog": (103, 3, 0, 0), "settimeofday": (164, 0, 0), "clock_settime": (227, 0, 0), "clock_adjtime": (305, 0, 0), "adjtimex": (159, 0),
    "iopl": (172, 3), "ioperm": (173, 0, 1, 1), "modify_ldt": (154, 0, 0, 0), "mbind": (237, 0, 0, 0, 0, 0, 0), "set_mempolicy": (238, 0, 0, 0),
    "get_mempolicy": (239, 0, 0, 0, 0, 0), "move_pages": (279, 0, 0, 0, 0, 0, 0), "migrate_pages": (256, 0, 0, 0, 0),
    "set_mempolicy_home_node": (450, 0, 0, 0, 0), "fanotify_init": (300, 0, 0), "fanotify_mark": (301, 0, 0, 0, 0, 0), "nfsservctl": (180, 0, 0, 0),
    "uselib": (134, 0), "ustat": (136, 0, 0), "sysfs": (139, 0, 0, 0), "_sysctl": (156, 0), "vserver": (236, 0, 0, 0, 0, 0),
    "mount": (165, b"x", b"/mnt", b"tmpfs", 0, 0), "umount2": (166, b"/proc", 2), "pivot_root": (155, b".", b"."), "setns": (308, 0, 0), "unshare": (272, 0x10000000),
    "mount_setattr": (442, -1, 0, 0, 0, 0), "fspick": (433, -100, b"/", 0), "fsopen": (430, b"tmpfs", 0), "fsmount": (432, 0, 0, 0), "fsconfig": (431, 0, 0, 0, 0, 0),
    "open_tree": (428, -100, b"/", 1), "open_tree_attr": (467, -100, b"/", 1, 0, 0), "move_mount": (429, -100, b"/", -100, b"/", 0),
    "statmount": (457, 0, 0, 0, 0), "listmount": (458, 0, 0, 0, 0), "map_shadow_stack": (453, 0, 0, 0),
    "lsm_get_self_attr": (459, 0, 0, 0, 0), "lsm_set_self_attr": (460, 0, 0, 0, 0), "lsm_list_modules": (461, 0, 0, 0),
    "open_by_handle_at": (304, -100, 0, 0), "add_key": (248, b"user", b"k", b"v", 1, -3), "request_key": (249, b"user", b"k", 0, 0), "keyctl": (250, 0, -3, 0, 0, 0),
    "vhangup": (153,), "sethostname": (170, b"x", 1), "setdomainname": (171, b"x", 1), "cachestat": (451, 0, 0, 0, 0), "a number of the future": (600,),
}
tell({name: call(*arguments) for name, arguments in DOORS.items()})
