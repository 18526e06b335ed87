# What every hostile program starts with: `call(number, …)` is a system call and tells how it ended.
import ctypes, errno, json, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
def call(number, *arguments):
    result = raw(number, *arguments)
    code = ctypes.get_errno()
    return "allowed" if result >= 0 else errno.errorcode.get(code, str(code))
def attempt(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
def tell(value):
    print(json.dumps(value, default=str), flush=True)
